"""Who decided where no access log tells: the sidecars' counters around one more sweep.

They prove that RBAC denied, not by which rule. One sweep is counted alone, after the rounds have agreed, so
that every number must be exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.errors import ProbeError
from conformance.evidence import Outcome
from conformance.in_force import Answer
from conformance.mesh import ask_proxy
from conformance.rig import Rig
from conformance.sweep import Case, Probed, sweep
from conformance.topology import Ref
from conformance.verdict import Failure, Status, Verdict, is_breach, judge_counted, looks_right, worst

__all__ = ["Counts", "count", "counts_work", "parse_counters"]

DENIED = "tcp.rbac.denied"
SHADOW = "tcp.rbac.istio_dry_run_{action}_.shadow_{result}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one sweep moved, by workload: a verdict on its denials and one on its dry-run results."""

    probed: tuple[Probed, ...]
    forbidden: tuple[Probed, ...]  # those of them that must not be delivered
    denials: Mapping[Ref, Verdict]
    dry_runs: Mapping[Ref, Verdict]


def counts_work(rig: Rig, ref: Ref) -> bool:
    """Whether the sidecar of that workload can be asked for its counters."""
    try:
        return bool(parse_counters(ask_proxy(rig, ref, "/stats")))
    except ProbeError:
        return False


def parse_counters(text: str) -> dict[str, int]:
    """The counters in what Envoy's /stats says, by name."""
    lines = (line.partition(": ") for line in text.splitlines())
    return {name: int(value) for name, _, value in lines if value.strip().isdigit()}


def count(rig: Rig, cases: Sequence[Case], answers: Sequence[Answer]) -> Counts:
    """One sweep over the lanes whose decision the oracle has told, counted at their workloads' sidecars."""
    told = [
        (case, answer)
        for case, answer in zip(cases, answers, strict=True)
        if answer.foretold and rig.pods[case.lane.workload].sidecar
    ]
    refs = list(dict.fromkeys(case.lane.workload for case, _ in told))
    try:
        before = {ref: parse_counters(ask_proxy(rig, ref, "/stats")) for ref in refs}
        probed = sweep(rig, [case.lane for case, _ in told])
        after = {ref: parse_counters(ask_proxy(rig, ref, "/stats")) for ref in refs}
    except ProbeError as error:
        doubt = _doubt(f"the sidecars' counters cannot be read: {error.message}")
        doubts = dict.fromkeys(refs, doubt)
        return Counts(probed=(), forbidden=(), denials=doubts, dry_runs=doubts)
    denials: dict[Ref, Verdict] = {}
    dry_runs: dict[Ref, Verdict] = {}
    for ref in refs:
        mine = [(case, answer, one) for (case, answer), one in zip(told, probed, strict=True)]
        mine = [item for item in mine if item[0].lane.workload == ref]
        wanted: Counter[str] = Counter()
        for _, answer, _ in mine:
            wanted.update(_moved(answer))
        astray = [found for case, _, one in mine if (found := _astray(rig, case, one))]
        if astray:
            denials[ref] = dry_runs[ref] = worst(astray)
            continue
        moved = {name: after[ref].get(name, 0) - before[ref].get(name, 0) for name in _names()}
        absent = {name for name in wanted if name not in after[ref]}
        denials[ref] = judge_counted({DENIED: wanted[DENIED]}, moved, absent)
        shadows = {name: wanted[name] for name in _names() if name != DENIED}
        dry_runs[ref] = judge_counted(shadows, moved, absent)
    forbidden = [
        one
        for (case, _), one in zip(told, probed, strict=True)
        if case.expectation.outcome is not Outcome.SUCCEEDED
    ]
    return Counts(probed=tuple(probed), forbidden=tuple(forbidden), denials=denials, dry_runs=dry_runs)


def _names() -> tuple[str, ...]:
    actions, results = ("allow", "deny"), ("allowed", "denied")
    return DENIED, *(SHADOW.format(action=a, result=r) for a in actions for r in results)


def _moved(answer: Answer) -> list[str]:
    """The counters that one connection moves."""
    found = [DENIED] if answer.foretold and answer.foretold.outcome == "denied" else []
    if answer.decision:
        for action, shadow in (
            ("allow", answer.decision.dry_run_allow),
            ("deny", answer.decision.dry_run_deny),
        ):
            if shadow and shadow.visible:
                found.append(SHADOW.format(action=action, result="allowed" if shadow.allowed else "denied"))
    return found


def _astray(rig: Rig, case: Case, one: Probed) -> Verdict | None:
    """Why a probe of the counted sweep contradicts the rounds before it; None where it does not."""
    expected = one.expected(case.expectation.outcome, frozenset(rig.profile.denials))
    said = f"{one.lane}: {one.seen.describe()} in the counted sweep, unlike before"
    if is_breach(expected, one.seen):
        return Verdict(status=Status.FAILED, failure=Failure.EXPOSURE, reason=said)
    return None if looks_right(expected, one.seen) else _doubt(said)


def _doubt(reason: str) -> Verdict:
    return Verdict(status=Status.INCONCLUSIVE, reason=reason)
