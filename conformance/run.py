"""One case from beginning to end: baseline, then each step with its barrier and rounds, then recovery.

The only room that composes cluster, probes and verdicts. What it returns is data: a verdict and the case's
line of the record (docs/record.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from conformance.errors import ConformanceError
from conformance.evidence import Outcome
from conformance.exposure import delivered, end_watch
from conformance.lines import NOTHING_WRONG, bypass_line, close_step, step_line, waited_line
from conformance.look import Context, look, milliseconds
from conformance.notes import CaseResult, Notes, Settled
from conformance.open_paths import await_landing, hold_baseline, recover
from conformance.rig import Rig
from conformance.scenario import ChangeKind, Scenario, Step
from conformance.stage import renew_barrier
from conformance.step_result import Made
from conformance.steps import Hand
from conformance.sweep import Case, all_lanes, lanes, sweep
from conformance.verdict import Failure, Status, Verdict, is_breach, worst

__all__ = ["carry_out", "run_case"]


def run_case(scenario: Scenario, rig: Rig) -> CaseResult:
    """Runs it. What a mesh does wrong is in the verdict; what could not be asked is inconclusive."""
    notes = Notes(begun=time.monotonic(), targets=all_lanes(scenario, rig.profile.dataplane))
    hand = Hand(rig, scenario)

    def play() -> None:
        notes.processes = rig.processes({ref for step in scenario.steps for ref in step.unchanged})
        hold_baseline(rig, notes.targets, notes)
        for number, step in enumerate(scenario.steps, 1):
            end_watch(rig)
            if rig.exposed:
                break
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
        renew_barrier(rig)
        rig.heal()
        rig.clear()
        rig.open_sessions({lane.source for lane in notes.targets} | {ref.ref for ref in rig.backends})
        with suppress(Settled):
            play()
    except ConformanceError as error:
        notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=str(error)))
    finally:
        # Also when interrupted: what a case made must not be there for the next one.
        end_watch(rig)
        exposed = _exposed(rig, hand)
        undone = hand.undo()
    notes.verdicts += [*exposed, *undone.verdicts]
    recover(rig, notes.targets, undone, notes)
    notes.verdicts += [*_delivered_late(rig, notes), *delivered(rig)]
    rig.settle()
    verdict = worst(notes.verdicts)
    recovery = notes.controls.get("recovery") or {}
    foretold = [{"step": step["number"]} | lane for step in notes.steps for lane in step.pop("oracle")]
    line = {
        "status": verdict.status.value,
        "failure": verdict.failure.value if verdict.failure else None,
        "reason": verdict.reason,
        "started": started,
        "duration_ms": milliseconds(time.monotonic() - notes.begun),
        "policies": hand.applied,
        "oracle": {"lanes": foretold} if foretold else None,
        "attribution": rig.attribution,
        "steps": notes.steps,
        "controls": _controls(notes),
        "findings": notes.findings,
        "time_to_enforce_ms": max(
            (step["time_to_enforce_ms"] for step in notes.steps if step["time_to_enforce_ms"] is not None),
            default=None,
        ),
        "time_to_recover_ms": recovery.get("recovered_ms"),
        **notes.extra,
    }
    return CaseResult(verdict=verdict, line=line)


def _controls(notes: Notes) -> dict[str, Any]:
    """In the order in which they were made."""
    found = notes.controls | ({"bypass": line} if (line := bypass_line(notes.steps)) else {})
    return {name: found[name] for name in ("baseline", "bypass", "recovery") if name in found}


def _exposed(rig: Rig, hand: Hand) -> list[Verdict]:
    """What the case's watches found. Where somebody else changed its policies a breach is not the mesh's, nor
    is what arrives of their last probes, whose answers nobody waited for."""
    failed = any(verdict.failure for verdict in rig.exposed)
    if not failed and not rig.watched:
        return list(rig.exposed)
    try:
        disturbed = hand.disturbed()
    except ConformanceError as error:
        disturbed = [error.message]
    if disturbed:
        rig.watched.clear()
    return [_disturbed(disturbed)] if disturbed and failed else list(rig.exposed)


def _disturbed(what: Sequence[str]) -> Verdict:
    reason = f"somebody else changed what this case had applied: {'; '.join(what)}"
    return Verdict(status=Status.INCONCLUSIVE, reason=reason)


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
    notes.forbidden += [one for one in probed if not one.misled]
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
    forbidden = len(notes.forbidden)
    settled = not (notes.unproven.written or notes.unproven.deleted)
    made = hand.make(step)
    applied = time.monotonic()
    line["api"] = made.api
    line["timings"]["applied_ms"] = milliseconds(applied - notes.begun)
    verdicts = list(made.verdicts)
    notes.unproven.merge(made)
    anew = step.change.kind is ChangeKind.RESTART and settled
    if anew:
        verdicts += _first_connections(rig, cases, notes)
    if cases and worst([*verdicts, NOTHING_WRONG]).passed:
        waited = await_landing(rig, notes.unproven.changes, [case.lane for case in cases])
        line["barrier"] = waited_line(waited)
        line["timings"]["landed_ms"] = milliseconds(time.monotonic() - notes.begun)
        if waited.landed:
            notes.unproven = Made()
            if anew:
                # Before it landed, the client's side may not have known the new pod.
                verdicts += _first_connections(rig, cases, notes)
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
    disturbed = hand.disturbed()
    if disturbed:
        # Whatever was seen, it was not of this case's policies.
        del notes.forbidden[forbidden:]
        verdicts = [_disturbed(disturbed)]
    return close_step(line, verdicts)
