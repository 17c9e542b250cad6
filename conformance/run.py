"""One case from beginning to end: baseline, then each step with its barrier and rounds, then recovery.

The only room that composes cluster, probes and verdicts. What it returns is data: a verdict and the case's
line of the record (docs/record.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from conformance.barrier import Changes
from conformance.errors import ConformanceError
from conformance.evidence import Kind, Outcome, Waited
from conformance.lines import NOTHING_WRONG, close_step, probe_line, step_line, waited_line
from conformance.look import Context, Round, look, milliseconds
from conformance.probe.converge import Convergence, converge
from conformance.rig import Processes, Rig
from conformance.scenario import ChangeKind, Scenario, Step
from conformance.steps import Hand, Made
from conformance.sweep import Case, Lane, Probed, all_lanes, bypass, lanes, sweep
from conformance.topology import Ref
from conformance.verdict import Failure, Status, Verdict, is_breach, worst

__all__ = [
    "CaseResult",
    "Notes",
    "Settled",
    "await_landing",
    "carry_out",
    "hold_baseline",
    "run_case",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """`line` is the case's line of the record."""

    verdict: Verdict
    line: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Notes:
    """What a running case has gathered for its line."""

    begun: float
    targets: list[Lane] = field(default_factory=list)  # of the whole case
    verdicts: list[Verdict] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    controls: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    baseline: set[Lane] = field(default_factory=set)
    forbidden: list[Probed] = field(default_factory=list)
    processes: dict[Ref, Processes] = field(default_factory=dict)  # at the baseline
    unproven: Made = field(default_factory=Made)  # changes that no barrier has proven yet
    extra: dict[str, Any] = field(default_factory=dict)  # fields of the line that few cases have


class Settled(Exception):
    """A verdict is noted that makes the rest of the case pointless."""


def run_case(scenario: Scenario, rig: Rig) -> CaseResult:
    """Runs it. What a mesh does wrong is in the verdict; what could not be asked is inconclusive."""
    notes = Notes(begun=time.monotonic(), targets=all_lanes(scenario, rig.profile.dataplane))
    hand = Hand(rig, scenario)

    def play() -> None:
        notes.processes = rig.processes({ref for step in scenario.steps for ref in step.unchanged})
        hold_baseline(rig, notes.targets, notes)
        for number, step in enumerate(scenario.steps, 1):
            verdict = _step(rig, hand, step, number, notes)
            notes.verdicts.append(verdict)
            if not verdict.passed:
                break  # what follows builds on it

    return carry_out(rig, hand, notes, play)


def carry_out(rig: Rig, hand: Hand, notes: Notes, play: Callable[[], None]) -> CaseResult:
    """A case from a clean rig to a clean rig: `play`, then everything undone, recovery, the verdict."""
    started = time.time()
    rig.forget()
    try:
        rig.clear()
        rig.open_sessions({lane.source for lane in notes.targets} | {ref.ref for ref in rig.backends})
        with suppress(Settled):
            play()
    except ConformanceError as error:
        notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=str(error)))
    finally:
        # Also when interrupted: what a case made must not be there for the next one.
        undone = hand.undo()
    notes.verdicts += undone.verdicts
    _recovery(rig, notes.targets, undone, notes)
    notes.verdicts += _delivered_late(rig, notes)
    rig.settle()
    verdict = worst(notes.verdicts)
    line = {
        "status": verdict.status.value,
        "failure": verdict.failure.value if verdict.failure else None,
        "reason": verdict.reason,
        "started": started,
        "duration_ms": milliseconds(time.monotonic() - notes.begun),
        "policies": hand.applied,
        "steps": notes.steps,
        "controls": notes.controls,
        "findings": notes.findings,
        "time_to_enforce_ms": max(
            (step["time_to_enforce_ms"] for step in notes.steps if step["time_to_enforce_ms"] is not None),
            default=None,
        ),
        **notes.extra,
    }
    return CaseResult(verdict=verdict, line=line)


def _answered(round_: Round) -> bool:
    return all(probed.seen.kind is Kind.ANSWERED for probed in round_)


def _reach(rig: Rig, targets: Sequence[Lane], timeout: float) -> Convergence[Round]:
    """Sweeps until every lane answers once."""
    return converge(
        lambda: sweep(rig, targets),
        agrees=_answered,
        breaches=lambda _: False,
        rounds=1,
        timeout=timeout,
    )


def hold_baseline(rig: Rig, targets: Sequence[Lane], notes: Notes) -> None:
    """Every lane must answer before anything is applied; without it no denial means anything. Raises
    Settled, the verdict noted."""
    if not targets:
        return
    result = _reach(rig, targets, rig.profile.deadlines.baseline)
    notes.baseline = {probed.lane for probed in result.last if probed.seen.kind is Kind.ANSWERED}
    notes.controls["baseline"] = _control_line(result)
    missing = [probed for probed in result.last if probed.seen.kind is not Kind.ANSWERED]
    if missing:
        said = "; ".join(f"{probed.lane}: {probed.seen.describe()}" for probed in missing[:4])
        reason = f"the baseline does not hold, so nothing can be concluded: {said}"
        notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
        raise Settled


def _recovery(rig: Rig, targets: Sequence[Lane], undone: Made, notes: Notes) -> None:
    """Everything is deleted: every lane must answer again."""
    if not targets or not (undone.written or undone.deleted or notes.steps):
        return
    begun = time.monotonic()
    waited = await_landing(rig, undone.changes, targets)
    result = _reach(rig, targets, rig.profile.deadlines.recovery)
    line = _control_line(result)
    line["barrier"] = waited_line(waited)
    line["recovered_ms"] = milliseconds(time.monotonic() - begun) if result.first_stable is not None else None
    notes.controls["recovery"] = line
    missing = [probed for probed in result.last if probed.seen.kind is not Kind.ANSWERED]
    if not missing:
        if not waited.landed:
            reason = f"the deletion is not proven to have landed: {waited.detail}"
            notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
        return
    alive = bypass(rig, [(probed.lane.workload, probed.lane.workload_port) for probed in missing])
    said = "; ".join(f"{probed.lane}: {probed.seen.describe()}" for probed in missing[:4])
    denied = all(
        probed.seen.kind in rig.profile.denials
        and alive[(probed.lane.workload, probed.lane.workload_port)][1].kind is Kind.ANSWERED
        for probed in missing
    )
    notes.verdicts.append(
        Verdict(status=Status.FAILED, failure=Failure.NOT_RECOVERED, reason=said)
        if denied and waited.landed
        else Verdict(status=Status.INCONCLUSIVE, reason=f"the paths did not come back: {said}")
    )


def _delivered_late(rig: Rig, notes: Notes) -> list[Verdict]:
    """A failure for each probe that must not have arrived and did, after its step was judged."""
    return [
        Verdict(
            status=Status.FAILED,
            failure=Failure.DELIVERED,
            reason=f"{probed.lane}: its bytes came late, but are in the log of {', '.join(found)}",
        )
        for probed in notes.forbidden
        if (found := rig.logbook.heard(probed.nonce))
    ]


def _control_line(result: Convergence[Round]) -> dict[str, Any]:
    return {
        "held": result.first_stable is not None,
        "rounds": len(result.rounds),
        "probes": [probe_line(probed, round_=len(result.rounds)) for probed in result.last],
    }


def await_landing(rig: Rig, changes: Changes, targets: Sequence[Lane]) -> Waited:
    refs = dict.fromkeys(ref for lane in targets for ref in (lane.workload, lane.source))
    pods = [rig.pods[ref].key for ref in refs if rig.pods[ref].sidecar]
    return rig.barrier.wait(changes, pods=pods, timeout=rig.profile.deadlines.barrier)


def _replaced(rig: Rig, step: Step, notes: Notes) -> list[Verdict]:
    """A failure for each workload that must run as the same processes and does not."""
    now = rig.processes(step.unchanged)
    return [
        Verdict(
            status=Status.FAILED,
            failure=Failure.RESTARTED,
            reason=f"{ref} ran as {notes.processes[ref]}, now it is {found}",
        )
        for ref, found in now.items()
        if found != notes.processes[ref]
    ]


def _first_connections(rig: Rig, cases: Sequence[Case], notes: Notes) -> list[Verdict]:
    """A failure for each connection that a new pod lets through and must not: its policies were in force
    before it was made, so that there is nothing to wait for."""
    closed = [case for case in cases if case.expectation.outcome is not Outcome.SUCCEEDED]
    probed = sweep(rig, [case.lane for case in closed])
    notes.forbidden += probed
    denials = frozenset(rig.profile.denials)
    return [
        Verdict(
            status=Status.FAILED,
            failure=Failure.EXPOSURE,
            reason=f"{one.lane} must be {case.expectation.outcome.value} from the first connection on: "
            f"{one.seen.describe()}",
        )
        for case, one in zip(closed, probed, strict=True)
        if is_breach(one.expected(case.expectation.outcome, denials), one.seen)
    ]


def _step(rig: Rig, hand: Hand, step: Step, number: int, notes: Notes) -> Verdict:
    expectations = [item for item in step.expect if item.dataplane in (None, rig.profile.dataplane)]
    cases = lanes(expectations)
    line = step_line(number, step.change.describe(), file_line=step.line)
    notes.steps.append(line)
    settled = not (notes.unproven.written or notes.unproven.deleted)
    made = hand.make(step)
    applied = time.monotonic()
    line["api"] = made.api
    line["timings"]["applied_ms"] = milliseconds(applied - notes.begun)
    verdicts = list(made.verdicts)
    notes.unproven.merge(made)
    if step.change.kind is ChangeKind.RESTART and settled:
        verdicts += _first_connections(rig, cases, notes)
    if cases and worst([*verdicts, NOTHING_WRONG]).passed:
        waited = await_landing(rig, notes.unproven.changes, [case.lane for case in cases])
        line["barrier"] = waited_line(waited)
        line["timings"]["landed_ms"] = milliseconds(time.monotonic() - notes.begun)
        if waited.landed:
            notes.unproven = Made()
            context = Context(
                begun=notes.begun,
                applied=applied,
                baseline=notes.baseline,
                findings=notes.findings,
                forbidden=notes.forbidden,
            )
            verdicts += look(rig, hand, cases, line, context)
        else:
            reason = f"the change is not proven to have landed: {waited.detail}"
            verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
    verdicts += _replaced(rig, step, notes)
    return close_step(line, verdicts)
