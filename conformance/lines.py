"""Evidence as the record writes it down; docs/record.md explains every field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from conformance.evidence import AccessEntry, Kind, Observation, Testimony, Waited
from conformance.in_force import Answer
from conformance.oracle import RuleName, Shadow
from conformance.record import Line
from conformance.scenario import Expectation, Scenario
from conformance.sweep import Probed
from conformance.verdict import Status, Verdict, worst

__all__ = [
    "NOTHING_WRONG",
    "bypass_line",
    "case_line",
    "close_step",
    "control_line",
    "oracle_line",
    "probe_line",
    "step_line",
    "waited_line",
]

NOTHING_WRONG = Verdict(status=Status.PASSED, reason="the API did as it must")


def waited_line(waited: Waited) -> Line:
    return {
        "strategy": waited.strategy,
        "landed": waited.landed,
        "waited_ms": round(waited.seconds * 1000, 3),
        "detail": waited.detail,
    }


def probe_line(
    probed: Probed,
    *,
    round_: int,
    expectation: Expectation | None = None,
    testimony: Testimony | None = None,
    verdict: Verdict | None = None,
    entries: Sequence[AccessEntry] = (),
) -> Line:
    """One probe with everything known of it."""
    lane = probed.lane
    seen = asdict(probed.seen)
    seen["kind"] = probed.seen.kind.value
    return {
        "round": round_,
        "from": str(lane.source),
        "to": str(lane.target),
        "via": lane.via,
        "port": lane.port,
        "workload": str(lane.workload),
        "workload_port": lane.workload_port,
        "nonce": probed.nonce,
        "expected": expectation.outcome.value if expectation else "succeeded",
        "by": expectation.by.describe() if expectation and expectation.by else None,
        "observed": seen,
        "described": probed.seen.describe(),
        "testimony": asdict(testimony) if testimony else None,
        "attribution": [{**asdict(entry), "described": entry.describe()} for entry in entries],
        "status": verdict.status.value if verdict else None,
        "failure": verdict.failure.value if verdict and verdict.failure else None,
        "reason": verdict.reason if verdict else None,
    }


def control_line(rounds: int, seen: Sequence[tuple[str, str, str, int, Observation]]) -> Line:
    """A control made beside the sweeps: (from, to, via, port) and what was seen. All of it must answer."""
    return {
        "held": all(found.kind is Kind.ANSWERED for *_, found in seen),
        "rounds": rounds,
        "probes": [
            {"from": source, "to": target, "via": via, "port": port}
            | {"kind": found.kind.value, "described": found.describe()}
            for source, target, via, port, found in seen
        ],
    }


def oracle_line(answer: Answer) -> Line:
    """What the oracle says of one lane of a step."""
    lane, decision, foretold = answer.lane, answer.decision, answer.foretold
    line: Line = {
        "from": str(lane.source),
        "to": str(lane.target),
        "via": lane.via,
        "port": lane.port,
        "outcome": foretold.outcome if foretold else None,
        "why": foretold.why if foretold else None,
        "doubt": answer.doubt or None,
    }
    if decision is None:
        return line
    return line | {
        "deciders": [_rule(rule) for rule in decision.matching],
        "audited": [_rule(rule) for rule in decision.audited],
        "dry_run_allow": _shadow(decision.dry_run_allow),
        "dry_run_deny": _shadow(decision.dry_run_deny),
        "policies": [
            {
                "policy": f"{policy.namespace}/{policy.name}",
                "action": policy.action,
                "dry_run": policy.dry_run,
                "why_not": policy.why or None,
                "rules": [
                    {"rule": rule.index, "matches": rule.matches, "reasons": list(rule.reasons)}
                    for rule in policy.rules
                ],
            }
            for policy in decision.policies
        ],
    }


def bypass_line(steps: Sequence[Line]) -> Line | None:
    """The bypass probes of all steps as one control: of each port the last one, or the first that failed."""
    last: dict[tuple[str, int], Line] = {}
    for probe in (probe for step in steps for probe in step["bypass"]):
        key = (probe["workload"], probe["port"])
        if key not in last or last[key]["kind"] == Kind.ANSWERED.value:
            last[key] = probe
    if not last:
        return None
    return {
        "held": all(probe["kind"] == Kind.ANSWERED.value for probe in last.values()),
        "rounds": sum(bool(step["bypass"]) for step in steps),
        "probes": [
            {"from": workload, "to": workload, "via": "loopback", "port": port}
            | {"kind": probe["kind"], "described": probe["why"]}
            for (workload, port), probe in last.items()
        ],
    }


def _rule(rule: RuleName) -> Line:
    return {"policy": f"{rule.namespace}/{rule.name}", "rule": rule.rule}


def _shadow(shadow: Shadow | None) -> Line | None:
    if shadow is None:
        return None
    rules = [_rule(rule) for rule in shadow.matching]
    return {"allowed": shadow.allowed, "visible": shadow.visible, "rules": rules}


def step_line(number: int, change: str, *, file_line: int) -> Line:
    """A step's part of the record before anything has come of it."""
    return {
        "number": number,
        "change": change,
        "file_line": file_line,
        "api": [],
        "barrier": None,
        "rounds": [],
        "oracle": [],
        "probes": [],
        "bypass": [],
        "exposure": None,
        "timings": {},
        "time_to_enforce_ms": None,
        "status": Status.INCONCLUSIVE.value,
        "failure": None,
        "reason": "the step could not be carried out",
    }


def close_step(line: Line, verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of the verdicts, written into the step's line."""
    verdict = worst(verdicts or [NOTHING_WRONG])
    line["status"] = verdict.status.value
    line["failure"] = verdict.failure.value if verdict.failure else None
    line["reason"] = verdict.reason
    return verdict


def case_line(scenario: Scenario, *, worker: str, result: Mapping[str, Any]) -> Line:
    """A case's line: what it is, then what came of it; a case that did not run has only status and reason."""
    empty: Line = {
        "failure": None,
        "started": None,
        "duration_ms": None,
        "policies": [],
        "oracle": None,
        "attribution": None,
        "steps": [],
        "controls": {},
        "findings": [],
        "time_to_enforce_ms": None,
        "time_to_recover_ms": None,
        "known_deviation": None,
    }
    return {
        "line": "case",
        "id": scenario.id,
        "title": scenario.title,
        "file": scenario.file.as_posix(),
        "requirements": list(scenario.requirements),
        "level": scenario.level.value,
        "features": list(scenario.features),
        "worker": worker,
        **empty,
        **result,
    }
