"""Before a case's policies and after them every path must answer; and the wait for a change to land."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from conformance.barrier import Changes
from conformance.evidence import Kind, Waited
from conformance.lines import probe_line, waited_line
from conformance.look import Round, markers, milliseconds
from conformance.notes import Notes, Settled
from conformance.probe.converge import Convergence, converge
from conformance.rig import Rig
from conformance.step_result import Made
from conformance.sweep import Lane, bypass, sweep
from conformance.topology import WORKLOADS
from conformance.verdict import Failure, Status, Verdict

__all__ = ["await_landing", "hold_baseline", "recover"]


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
    if not all(map(_answered, result.rounds)):
        # What was not answered may have reached no sidecar, whose log would owe its entry for good.
        rig.recount()
    elsewhere, unheard = _astray(rig, result.last)
    astray = elsewhere + unheard
    if missing or astray:
        notes.controls["baseline"]["held"] = False
        said = "; ".join([f"{probed.lane}: {probed.seen.describe()}" for probed in missing[:4]] + astray[:4])
        reason = f"the baseline does not hold, so nothing can be concluded: {said}"
        notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
        raise Settled


def _astray(rig: Rig, round_: Round) -> tuple[list[str], list[str]]:
    """Which answers came from another workload than the one asked, by the logs, and which stand in no log. A
    log that ended tells nothing."""
    ended = rig.silent_backends()
    answered = {one.nonce: one.lane for one in round_ if one.seen.kind is Kind.ANSWERED}
    wanted = {nonce: str(lane.workload) for nonce, lane in answered.items()}
    told = {nonce: workload for nonce, workload in wanted.items() if workload not in ended}
    rig.await_log(told, deadline=time.monotonic() + rig.profile.deadlines.testimony)
    found = {nonce: rig.logbook.heard(nonce) for nonce in answered}
    elsewhere = [
        f"{lane}: answered, but its bytes are in the log of {', '.join(found[nonce])}"
        for nonce, lane in answered.items()
        if found[nonce] not in ((), (wanted[nonce],))
    ]
    unheard = [
        f"{lane}: answered, but its bytes are in nobody's log (that of {wanted[nonce]} is open and silent)"
        for nonce, lane in answered.items()
        if nonce in told and not found[nonce]
    ]
    return elsewhere, unheard


def recover(rig: Rig, targets: Sequence[Lane], undone: Made, notes: Notes) -> None:
    """Everything is deleted: every lane must answer again."""
    played = notes.steps or any(verdict.passed for verdict in notes.verdicts)
    if not targets or not (undone.written or undone.deleted or played):
        return
    begun = time.monotonic()
    waited = await_landing(rig, undone.changes, targets)
    result = _reach(rig, targets, rig.profile.deadlines.recovery)
    line = _control_line(result)
    line["barrier"] = waited_line(waited)
    # Where the deletion is not proven to have landed, the time is the barrier's patience, not the mesh's.
    proven = waited.landed and result.first_stable is not None
    line["recovered_ms"] = milliseconds(time.monotonic() - begun) if proven else None
    notes.controls["recovery"] = line
    missing = [probed for probed in result.last if probed.seen.kind is not Kind.ANSWERED]
    elsewhere, unheard = _astray(rig, result.last)
    mute = markers(rig, targets)[0] if unheard and not elsewhere else ""
    if mute:
        # Who answered now is not known. What was seen before was told while the logs did.
        reason = f"{'; '.join(unheard[:4])}: {mute}"
        notes.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))
    elif astray := elsewhere + unheard:
        # Without any policy, too: whatever was seen before says nothing of this mesh's policies.
        notes.forbidden.clear()
        rig.watched.clear()
        reason = f"the paths lead elsewhere, without any policy, too: {'; '.join(astray[:4])}"
        notes.verdicts[:] = [Verdict(status=Status.INCONCLUSIVE, reason=reason)]
        return
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
    unproven = "" if waited.landed else f"; the deletion is not proven to have landed: {waited.detail}"
    unproven += "".join(f"; {verdict.reason}" for verdict in undone.verdicts)  # what is still there
    notes.verdicts.append(
        Verdict(status=Status.FAILED, failure=Failure.NOT_RECOVERED, reason=said)
        if denied and not unproven
        else Verdict(status=Status.INCONCLUSIVE, reason=f"the paths did not come back: {said}{unproven}")
    )


def _control_line(result: Convergence[Round]) -> dict[str, Any]:
    return {
        "held": result.first_stable is not None,
        "rounds": len(result.rounds),
        "probes": [probe_line(probed, round_=len(result.rounds)) for probed in result.last],
    }


def await_landing(rig: Rig, changes: Changes, targets: Sequence[Lane]) -> Waited:
    refs = dict.fromkeys(ref for lane in targets for ref in (lane.workload, lane.source))
    ztunnel = rig.profile.dataplane == "ztunnel"
    pods = [
        rig.pods[ref].key for ref in refs if rig.pods[ref].sidecar or (ztunnel and WORKLOADS[ref].injected)
    ]
    return rig.barrier.wait(changes, pods=pods, timeout=rig.profile.deadlines.barrier)
