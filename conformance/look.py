"""One look at a step's truth table: rounds until they agree, both ends' testimony, who decided, verdicts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conformance.evidence import AccessEntry, Controls, Kind, Outcome
from conformance.lines import finding, probe_line
from conformance.probe.converge import Convergence, converge
from conformance.rig import Rig
from conformance.scenario import By, Expectation
from conformance.steps import Hand
from conformance.sweep import CONTROL_PORT, Case, Lane, Probed, bypass, sweep
from conformance.verdict import (
    ANY,
    Decision,
    Expected,
    Failure,
    Status,
    Verdict,
    is_breach,
    judge,
    judge_attribution,
    judge_audit,
    judge_dry_run,
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
    """Rounds until they agree, then both ends' testimony and who decided, then the verdicts."""
    denials = frozenset(rig.profile.denials)
    targets = [case.lane for case in cases]
    # A late line of what was sent before would be taken for one of this step's.
    rig.settle()
    before = dict(rig.sent)

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
    incomplete, alive, line["bypass"] = markers(rig, targets)
    entries_complete = _await_entries(rig, cases)
    verdicts: list[Verdict] = []
    last = len(result.rounds) - (rig.profile.rounds if result.first_stable is not None else 1)
    for path, connections in Counter(_path(rig, lane) for lane in targets).items():
        before[path] = before.get(path, 0) + last * connections  # who decides counts where the rounds agree
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
            is_last = number == len(result.rounds) - 1
            if is_last and verdict.passed:
                attributed = _attribution(rig, hand, cases[index].expectation, lane, before)
                verdict = worst([verdict, *attributed])
            counts = number >= last or verdict.failure in (Failure.EXPOSURE, Failure.DELIVERED)
            if counts:
                verdicts.append(_placed(verdict, cases[index], number))
            _note_banner(probed, cases[index], context)
            if cases[index].expectation.outcome is not Outcome.SUCCEEDED:
                context.forbidden.append(probed)
            line["probes"].append(
                probe_line(
                    probed,
                    round_=number + 1,
                    expectation=cases[index].expectation,
                    testimony=testimony,
                    verdict=verdict,
                    entries=_entries(rig, lane, before) if is_last else (),
                )
            )
    if not entries_complete:
        line["attribution"] = "incomplete: not every connection is in the access log"
    if result.first_stable is None and worst(verdicts).passed:
        reason = f"the rounds did not agree {rig.profile.rounds} times in a row within the deadline"
        verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
    return verdicts


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
    missing = rig.logbook.wait_for(markers, deadline=deadline)
    causes = [f"no marker could be set in the log of {text}" for text in dead]
    causes += [f"the marker was not found in the log of {name}" for name in sorted(missing)]
    causes += [f"the log of {name} ended" for name in rig.silent_backends()]
    lines = [
        {"workload": str(ref), "port": port, "kind": found.kind.value, "why": found.describe()}
        for (ref, port), (_, found) in seen.items()
    ]
    return "; ".join(causes), {target: found for target, (_, found) in seen.items()}, lines


def _path(rig: Rig, lane: Lane) -> tuple[str, str, int]:
    return str(lane.workload), rig.pods[lane.source].address, lane.workload_port


def _await_entries(rig: Rig, cases: Sequence[Case]) -> bool:
    """Waits for the access log's entries of all probes sent so far; not at all where no mesh tells."""
    if rig.profile.attribution == "none":
        return False
    asserted = any(
        _asks_who(case.expectation) or case.expectation.outcome is Outcome.REJECTED for case in cases
    )
    paths = {_path(rig, case.lane) for case in cases if rig.pods[case.lane.workload].sidecar}
    timeout = rig.profile.deadlines.attribution if asserted else min(0.2, rig.profile.deadlines.attribution)
    return rig.access.wait_for(
        {path: rig.sent.get(path, 0) for path in paths}, deadline=time.monotonic() + timeout
    )


def _entries(rig: Rig, lane: Lane, before: dict[tuple[str, str, int], int]) -> tuple[AccessEntry, ...]:
    """This step's entries of a lane's path."""
    path = _path(rig, lane)
    return rig.access.since(path, before.get(path, 0))


def _attribution(
    rig: Rig,
    hand: Hand,
    expectation: Expectation,
    lane: Lane,
    before: dict[tuple[str, str, int], int],
) -> list[Verdict]:
    if rig.profile.attribution == "none":
        return []
    entries = _entries(rig, lane, before)
    path = _path(rig, lane)
    wanted = rig.sent.get(path, 0) - before.get(path, 0)
    found: list[Verdict] = []
    if expectation.by:
        denied = expectation.outcome is not Outcome.SUCCEEDED
        policy = _policy_name(hand, expectation.by)
        decision = Decision(denied=denied, policy=policy, rule=expectation.by.rule)
        found.append(judge_attribution(decision, entries, wanted=wanted))
    elif expectation.outcome is Outcome.REJECTED and rig.pods[lane.workload].sidecar:
        # A connection that ends before it reaches the workload's sidecar looks the same to its client.
        found.append(judge_attribution(Decision(denied=True, policy=ANY), entries, wanted=wanted))
    if expectation.dry_run:
        shadow = expectation.dry_run
        named = None if shadow.policy is None else hand.policy_name(shadow.policy)
        found.append(judge_dry_run(shadow.allow, shadow.deny, named, entries, wanted=wanted))
    if expectation.audited:
        found.append(judge_audit(_policy_name(hand, expectation.audited), entries))
    return found


def _asks_who(expectation: Expectation) -> bool:
    return bool(expectation.by or expectation.dry_run or expectation.audited)


def _policy_name(hand: Hand, by: By) -> str | None:
    return None if by.policy is None else f"{hand.resolve(by.namespace)}/{hand.resolve(by.policy)}"


def _note_banner(probed: Probed, case: Case, context: Context) -> None:
    """A denied client of a server-first port that received the greeting: no breach, but to be told."""
    if case.expectation.outcome is Outcome.REJECTED and probed.seen.kind is Kind.BANNER:
        text = f"a denied client received a server-first backend's banner: {probed.lane}"
        found = finding("RUN-04", severity="medium", text=text)
        if found not in context.findings:
            context.findings.append(found)
