"""One look at a step's truth table: rounds until they agree, both ends' testimony, who decided, verdicts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conformance.attributing import (
    await_entries,
    count_where_needed,
    entries_of,
    judge_deciders,
)
from conformance.errors import SetupError
from conformance.evidence import Controls, Kind, Outcome
from conformance.exposure import begin_watch
from conformance.findings import finding
from conformance.in_force import foretell
from conformance.lines import oracle_line, probe_line
from conformance.probe.converge import Convergence, converge
from conformance.rig import Rig
from conformance.steps import Hand
from conformance.sweep import CONTROL_PORT, Case, Lane, Probed, bypass, path_of, sweep
from conformance.topology import Ref
from conformance.verdict import (
    Expected,
    Failure,
    Status,
    Verdict,
    is_breach,
    judge,
    looks_right,
    worst,
)

__all__ = ["Context", "Round", "look", "markers", "milliseconds"]

Round = list[Probed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a look needs to know of the case. `begun` and `applied` are of time.monotonic; `findings` and
    `forbidden` (probes that must not have been delivered) are the case's lists, added to."""

    begun: float
    applied: float
    baseline: set[Lane]
    findings: list[dict[str, Any]]
    forbidden: list[Probed]


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def look(
    rig: Rig, hand: Hand, cases: Sequence[Case], line: dict[str, Any], context: Context
) -> list[Verdict]:
    """Rounds until they agree, then both ends' testimony and who decided, then the verdicts. Once they
    agree the exposure watch is on: it is for the caller to end it before the next change."""
    denials = frozenset(rig.profile.denials)
    targets = [case.lane for case in cases]
    # A late line of what was sent before would be taken for one of this step's.
    rig.settle()
    before, overdue = dict(rig.sent), rig.overdue()
    rig.replaced(_involved(targets))

    def expected(index: int, probed: Probed) -> Expected:
        return probed.expected(cases[index].expectation.outcome, denials)

    result: Convergence[Round] = converge(
        lambda: sweep(rig, targets),
        agrees=lambda round_: all(looks_right(expected(i, p), p.seen) for i, p in enumerate(round_)),
        breaches=lambda round_: any(is_breach(expected(i, p), p.seen) for i, p in enumerate(round_)),
        rounds=rig.profile.rounds,
        timeout=rig.profile.deadlines.converge,
    )
    _note_rounds(result, line, context)
    stable = result.first_stable is not None
    # What is counted exactly must be alone: there the watch begins after it.
    counting = "counters" in rig.profile.attribution
    if stable and not counting:
        begin_watch(rig, cases, line, begun=context.begun)
    incomplete, alive, line["bypass"] = markers(rig, targets)
    entries_complete = await_entries(rig, cases)
    answers = foretell(rig, hand, cases)
    line["oracle"] = [oracle_line(answer) for answer in answers]
    verdicts: list[Verdict] = []
    last = len(result.rounds) - (rig.profile.rounds if stable else 1)
    for path, connections in Counter(path_of(rig, lane) for lane in targets).items():
        before[path] = before.get(path, 0) + last * connections  # who decides counts where the rounds agree
    counted = count_where_needed(rig, cases, answers, before)
    context.forbidden.extend(counted.forbidden if counted else ())
    if stable and counting:
        begin_watch(rig, cases, line, begun=context.begun)
    for number, round_ in enumerate(result.rounds):
        for index, probed in enumerate(round_):
            lane = probed.lane
            testimony = rig.logbook.testimony(
                nonce=probed.nonce, line=probed.line, port=lane.workload_port, incomplete=incomplete
            )
            controls = Controls(
                baseline=lane in context.baseline,
                bypass=alive[(lane.workload, lane.workload_port)].kind is Kind.ANSWERED,
                why=alive[(lane.workload, lane.workload_port)].describe(),
            )
            verdict = judge(expected(index, probed), probed.seen, controls, testimony)
            if probed.misled:
                verdict = Verdict(status=Status.INCONCLUSIVE, reason=probed.seen.describe())
            is_last = number == len(result.rounds) - 1
            answer = answers[index] if answers else None
            if answer and answer.foreign:
                verdict = Verdict(status=Status.INCONCLUSIVE, reason=answer.doubt)
            elif is_last and verdict.passed and path_of(rig, lane) in overdue:
                reason = f"the access log of {lane.workload} has not told of all earlier connections"
                verdict = Verdict(status=Status.INCONCLUSIVE, reason=reason)
            elif is_last and verdict.passed:
                attributed = judge_deciders(rig, hand, cases[index], answer, before, counted)
                verdict = worst([verdict, *attributed])
            counts = number >= last or verdict.failure in (Failure.EXPOSURE, Failure.DELIVERED)
            if counts:
                verdicts.append(_placed(verdict, cases[index], number))
            _note_banner(probed, cases[index], context)
            if cases[index].expectation.outcome is not Outcome.SUCCEEDED and not probed.misled:
                context.forbidden.append(probed)
            line["probes"].append(
                probe_line(
                    probed,
                    round_=number + 1,
                    expectation=cases[index].expectation,
                    testimony=testimony,
                    verdict=verdict,
                    entries=entries_of(rig, lane, before) if is_last else (),
                )
            )
    verdicts = _undisturbed(rig, targets, verdicts)
    if not entries_complete:
        line["attribution"] = "incomplete: not every connection is in the access log"
    if not stable and worst(verdicts).passed:
        reason = f"the rounds did not agree {rig.profile.rounds} times in a row within the deadline"
        verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
    return verdicts


def _involved(targets: Sequence[Lane]) -> dict[Ref, None]:
    return dict.fromkeys(ref for lane in targets for ref in (lane.workload, lane.source))


def _undisturbed(rig: Rig, targets: Sequence[Lane], verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts; where a probed workload was restarted meanwhile, only what got through counts: all else
    may be the restart's doing."""
    try:
        replaced = rig.replaced(_involved(targets))
    except SetupError as error:
        return [*verdicts, Verdict(status=Status.INCONCLUSIVE, reason=str(error))]
    if not replaced:
        return verdicts
    reason = f"restarted or replaced while the probes ran: {', '.join(replaced)}"
    got_through = (Failure.EXPOSURE, Failure.DELIVERED)
    return [
        *(verdict for verdict in verdicts if verdict.failure in got_through),
        Verdict(status=Status.INCONCLUSIVE, reason=reason),
    ]


def _placed(verdict: Verdict, case: Case, number: int) -> Verdict:
    """The verdict with its lane in front, for a reader who sees only the worst one."""
    outcome = case.expectation.outcome.value
    reason = f"{case.lane} must be {outcome}: {verdict.reason} (round {number + 1})"
    return Verdict(status=verdict.status, failure=verdict.failure, reason=reason)


def _note_rounds(result: Convergence[Round], line: dict[str, Any], context: Context) -> None:
    stable = result.first_stable
    for number, (started, finished) in enumerate(zip(result.started, result.finished, strict=True)):
        line["rounds"].append(
            {
                "number": number + 1,
                "started_ms": milliseconds(started - context.begun),
                "finished_ms": milliseconds(finished - context.begun),
                "agreed": stable is not None and number >= stable,
            }
        )
    if stable is not None:
        line["timings"]["first_stable_ms"] = milliseconds(result.finished[stable] - context.begun)
        line["time_to_enforce_ms"] = milliseconds(result.finished[stable] - context.applied)


def markers(rig: Rig, targets: Sequence[Lane]) -> tuple[str, dict[Any, Any], list[dict[str, Any]]]:
    """Bypass probes of every probed port, and one in every backend's log. Why absence from the logs proves
    nothing (empty = it does), the observations by workload and port, and their lines for the record."""
    wanted = [(lane.workload, lane.workload_port) for lane in targets]
    wanted += [(backend.ref, CONTROL_PORT) for backend in rig.backends]
    seen = bypass(rig, wanted)
    deadline = time.monotonic() + rig.profile.deadlines.testimony
    dead = [
        f"{ref}: {observation.describe()}"
        for (ref, port), (_, observation) in seen.items()
        if port == CONTROL_PORT and observation.kind is not Kind.ANSWERED
    ]
    markers = {nonce: str(ref) for (ref, _), (nonce, found) in seen.items() if found.kind is Kind.ANSWERED}
    ended = rig.silent_backends()
    markers = {nonce: name for nonce, name in markers.items() if name not in ended}
    missing = rig.await_log(markers, deadline=deadline)
    causes = [f"no marker could be set in the log of {text}" for text in dead]
    causes += [f"the marker was not found in the log of {name}" for name in sorted(missing)]
    causes += [f"the log of {name} ended" for name in rig.silent_backends()]
    lines = [
        {"workload": str(ref), "port": port, "kind": found.kind.value, "why": found.describe()}
        for (ref, port), (_, found) in seen.items()
    ]
    return "; ".join(causes), {target: found for target, (_, found) in seen.items()}, lines


def _note_banner(probed: Probed, case: Case, context: Context) -> None:
    """A denied client of a server-first port that received the greeting: no breach, but to be told."""
    if case.expectation.outcome is Outcome.REJECTED and probed.seen.kind is Kind.BANNER:
        seen = f"a denied client received a server-first backend's banner: {probed.lane}"
        found = finding("RUN-04", severity="medium", seen=seen)
        if found not in context.findings:
            context.findings.append(found)
