"""Evidence as the record writes it down; docs/record.md explains every field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from conformance.evidence import AccessEntry, Testimony, Waited
from conformance.in_force import Answer
from conformance.oracle import RuleName, Shadow
from conformance.record import Line
from conformance.scenario import Expectation, Scenario
from conformance.sweep import Probed
from conformance.verdict import Status, Verdict, worst

__all__ = [
    "NOTHING_WRONG",
    "case_line",
    "close_step",
    "finding",
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


def finding(requirement: str, *, severity: str, text: str) -> Line:
    """Something a reader must know although no verdict hangs on it. `severity`: low, medium or high."""
    return {"requirement": requirement, "severity": severity, "text": text}


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
