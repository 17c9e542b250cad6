"""Record lines for tests of the record and of the reports; made by the same functions as real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.evidence import AccessEntry, Kind, Observation, Outcome, Waited
from conformance.evidence import Testimony as Witness  # "Test..." would be collected
from conformance.findings import finding
from conformance.in_force import Answer
from conformance.lines import case_line, oracle_line, probe_line, waited_line
from conformance.oracle import Decision, PolicyFinding, RuleFinding, RuleName, Shadow
from conformance.oracle import Verdict as Judged
from conformance.scenario import By, Expectation, Level, Scenario
from conformance.sweep import Lane, Probed, lanes
from conformance.topology import Ref
from conformance.verdict import Failure, Foretold, Status, Verdict

Line = dict[str, Any]


def header(*planned: str, **changed: Any) -> Line:
    return {
        "line": "header",
        "record": 1,
        "run": "r1",
        "started": 1.0,
        "suite": {"name": "authz-conformance", "version": "0.1.0"},
        "python": "3.11",
        "profile": {"name": "bundled", "title": "t", "features": [], "unsupported": {}, "budgets": {}},
        "cluster": {"kind": "embedded", "description": "here", "version": "v1"},
        "implementation": {"name": "i", "version": "1"},
        "level": "core",
        "selection": "",
        "options": {},
        "attribution": ["access-log"],
        "timeouts": {"probe": 2.0},
        "rounds": 3,
        "environment": [],
        "requirements": [],
        "planned": list(planned),
    } | changed


def footer(code: int = 0) -> Line:
    return {
        "line": "footer",
        "finished": 2.0,
        "duration_ms": 1000.0,
        "interrupted": False,
        "exit_code": code,
        "over_budget": [],
        "stale_deviations": [],
        "report": "reports/r1",
    }


def _answer(lane: Lane) -> Answer:
    rule = RuleName(namespace="foo", name="p", rule=0)
    finding = PolicyFinding(
        namespace="foo",
        name="p",
        action="ALLOW",
        dry_run=False,
        governs=True,
        why="",
        rules=(RuleFinding(index=0, matches=False, reasons=("another port",)),),
    )
    shadow = Shadow(allowed=True, matching=(rule,))
    decision = Decision(
        verdict=Judged.DENIED,
        why="no ALLOW rule matches",
        policies=(finding,),
        audited=(rule,),
        dry_run_allow=shadow,
    )
    foretold = Foretold(outcome="denied", deciders=(), why=decision.why)
    return Answer(lane=lane, decision=decision, foretold=foretold)


def case(name: str, status: str = "passed", *, reason: str = "so", failure: str | None = None) -> Line:
    """A case of one step with one probe on sleep.foo -> tcp-echo.foo:9001, expected to be rejected."""
    group_and_name = Scenario(
        id=name,
        file=Path(f"conformance/scenarios/{name}.yaml"),
        title=f"The case {name} holds",
        requirements=("DOC-02", "RUN-01"),
        level=Level.CORE,
        features=(),
        steps=(),
        documents=(),
    )
    expectation = Expectation(
        source=Ref(name="sleep", namespace="foo"),
        target=Ref(name="tcp-echo", namespace="foo"),
        ports=(9001,),
        outcome=Outcome.REJECTED,
        by=By(policy=None),
    )
    probed = Probed(
        lane=lanes([expectation])[0].lane,
        nonce="n0",
        line="port 9001 n0",
        seen=Observation(kind=Kind.CLOSED, sent_bytes=13, ended_by="fin", end_ms=1.0),
    )
    verdict = Verdict(status=Status(status), reason=reason, failure=Failure(failure) if failure else None)
    entry = AccessEntry(workload="tcp-echo.foo", source_ip="10.0.0.1", destination_port=9001, denied=True)
    probe = probe_line(
        probed,
        round_=1,
        expectation=expectation,
        testimony=Witness(seen_in=(), complete=True),
        verdict=verdict,
        entries=[entry],
    )
    call = {"action": "apply", "object": "AuthorizationPolicy/foo/p", "code": 201}
    step = {
        "number": 1,
        "change": "apply p",
        "file_line": 5,
        "api": [call | {"reason": "", "message": "", "warnings": ["careful"]}],
        "barrier": waited_line(Waited(strategy="none", landed=True, seconds=0.01, detail="seen")),
        "rounds": [{"number": 1, "started_ms": 1.0, "finished_ms": 2.0, "agreed": True}],
        "probes": [probe],
        "bypass": [{"workload": "tcp-echo.foo", "port": 9000, "kind": "answered", "why": "so"}],
        "exposure": {
            "from_ms": 3.0,
            "until_ms": 9.0,
            "every_ms": 50.0,
            "lanes": 1,
            "probes": 2,
            "kinds": {"closed": 2},
            "breaches": [],
            "lost": "",
        },
        "timings": {"applied_ms": 1.0, "landed_ms": 2.0, "first_stable_ms": 3.0},
        "time_to_enforce_ms": 20.0,
        "status": status,
        "failure": failure,
        "reason": reason,
    }
    result = {
        "status": status,
        "failure": failure,
        "reason": reason,
        "started": 1.0,
        "duration_ms": 100.0,
        "policies": [{"kind": "AuthorizationPolicy", "metadata": {"name": "p"}}],
        "oracle": {"lanes": [{"step": 1} | oracle_line(_answer(probed.lane))]},
        "attribution": "access-log",
        "steps": [step],
        "controls": {"baseline": {"held": True, "rounds": 1, "probes": [probe_line(probed, round_=1)]}},
        "findings": [finding("RUN-04", severity="medium", seen="a banner")],
        "time_to_enforce_ms": 20.0,
        "time_to_recover_ms": None,
    }
    return case_line(group_and_name, worker="", result=result)
