"""Cases of ambient that data cannot say: what the control plane tells of a policy, what ztunnel makes of
fields it does not know, and how it ends a connection."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from conformance.act import Act, policy, row
from conformance.evidence import Kind, Outcome
from conformance.newcomers import hold
from conformance.scenario import By, Expectation
from conformance.sweep import lanes, sweep
from conformance.verdict import Failure

# The control plane's word on whether ztunnel is given a policy (istiod, ambient/authorization.go).
CONDITION, UNSUPPORTED = "ZtunnelAccepted", "UnsupportedValue"
SWITCH = "AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY"
PAUSE = 0.1  # seconds between two looks at a status
ROUNDS = 5
SILENT_SECONDS = 2.0
AUDIT = policy("audit", {"action": "AUDIT", "rules": [{}]})
# A sidecar denies what an unknown provider is to be asked about.
CUSTOM = policy("custom", {"action": "CUSTOM", "provider": {"name": "conformance-unknown"}, "rules": [{}]})
DENY_9001 = policy("deny-9001", {"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9001"]}}]}]})
TRIED = policy("tried", {"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9000"]}}]}]})
TRIED["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
DENY_ALL = policy("deny-all", {})
ONLY_9001 = [
    row("sleep.foo", "tcp-echo.foo", 9000, outcome="succeeded"),
    row("sleep.foo", "tcp-echo.foo", 9001, outcome="rejected", by=By(policy="deny-9001", rule=0)),
]
BESIDE = policy(
    "beside",
    {"rules": [{"from": [{"source": {"namespaces": ["${foo}"], "trustDomains": ["other.example"]}}]}]},
)


@pytest.mark.requirements("AMB-03", features=["ztunnel"])
def test_unsupported_actions(act: Act) -> None:
    """In ambient AUDIT and CUSTOM enforce nothing, and the condition ZtunnelAccepted says so"""
    act.begin(ONLY_9001)
    for body in (AUDIT, CUSTOM, DENY_9001):
        act.apply(body)
    for body in (AUDIT, CUSTOM):
        must_be(act, body, taken=False)
    must_be(act, DENY_9001, taken=True)
    act.expect(ONLY_9001, what="AUDIT and CUSTOM of everything stand beside a DENY of 9001")


@pytest.mark.requirements("AMB-06", features=["ztunnel"])
def test_dry_run_switch(act: Act) -> None:
    """In ambient a dry-run policy is taken only where the control plane's switch for it is on"""
    switched_on = "dry-run" in act.rig.profile.features
    act.begin(ONLY_9001)
    for body in (TRIED, DENY_9001):
        act.apply(body)
    found = condition(act, TRIED)
    if (found.get("status") == "True") is not switched_on:
        declared = "declares" if switched_on else "does not declare"
        act.doubt(
            f"the profile {declared} the feature dry-run, which in ambient is {SWITCH} of istiod; with it "
            f"the policy is taken, without it not: {told(found)}"
        )
    must_be(act, TRIED, taken=switched_on)
    must_be(act, DENY_9001, taken=True)
    act.expect(ONLY_9001, what="a dry-run DENY of 9000 stands beside a DENY of 9001")


@pytest.mark.requirements("AMB-04", features=["ztunnel", "mtls"])
def test_trust_domains(act: Act) -> None:
    """What trustDomains does in ambient, alone and beside namespaces"""
    alone = policy(
        "alone", {"rules": [{"from": [{"source": {"trustDomains": [act.rig.profile.trust_domain]}}]}]}
    )
    act.begin([open_to("sleep.foo"), open_to("sleep.bar")])
    act.apply(BESIDE)
    stored = act.rig.kube.get(act.rig.kube.key(act.resolve(BESIDE))).body
    if "trustDomains" not in stored["spec"]["rules"][0]["from"][0]["source"]:
        act.doubt("this mesh's API does not know the field trustDomains of a source")
    # Which of the two it is nobody promises; whichever it is must then hold, round after round.
    wider = outcome_of(act, "sleep.foo")
    act.expect(
        [open_to("sleep.foo", wider), open_to("sleep.bar", Outcome.REJECTED)],
        what="an ALLOW of the own namespace, but of another trust domain",
    )
    act.delete(BESIDE)
    act.apply(alone)
    matches = outcome_of(act, "sleep.foo")
    act.expect([open_to("sleep.foo", matches)], what="an ALLOW of the mesh's own trust domain")
    ignored = wider is Outcome.SUCCEEDED
    act.observe(
        "AMB-04",
        severity="high" if ignored else "low",
        seen=f"ALLOW with namespaces and another trust domain {'admitted' if ignored else 'refused'} a "
        f"client of that namespace; ALLOW with the mesh's own trust domain alone "
        f"{'admitted' if matches is Outcome.SUCCEEDED else 'refused'} it",
    )


@pytest.mark.requirements("AMB-09", features=["ztunnel"])
def test_how_connections_end(act: Act) -> None:
    """How a denied connection ends in ambient, with unread bytes and without"""
    table = [
        row("sleep.foo", "tcp-echo.foo", 9000, outcome="rejected", by=By(policy=None)),
        row("sleep.foo", "tcp-echo.foo", 9000, outcome="rejected", by=By(policy=None), via="pod"),
        row("sleep.legacy", "tcp-echo.foo", 9000, outcome="rejected", by=By(policy=None), via="pod"),
    ]
    act.begin(table)
    act.apply(DENY_ALL)
    act.expect(table, what="everything is denied")
    act.rest()
    seen: dict[str, Counter[str]] = {}
    for _ in range(ROUNDS):
        for one in act.probe(table):
            seen.setdefault(str(one.lane), Counter())[one.seen.kind.value] += 1
    spoke = "; ".join(
        f"{lane} {', '.join(f'{kind} {count} times' for kind, count in sorted(kinds.items()))}"
        for lane, kinds in seen.items()
    )
    silent = []
    for source in ("sleep.foo", "sleep.legacy"):
        with hold(act.rig, source, "tcp-echo.foo", 9000, line="", limit=SILENT_SECONDS) as held:
            ended, _, _ = held.end()
        silent.append(f"{source} {ended or f'not within {SILENT_SECONDS:g} s'}")
    act.observe(
        "AMB-09",
        severity="low",
        seen=f"denied clients that sent a line: {spoke}; that sent nothing: {', '.join(silent)}",
    )


def open_to(source: str, outcome: Outcome = Outcome.SUCCEEDED) -> Expectation:
    return row(source, "tcp-echo.foo", 9000, outcome=outcome.value)


def outcome_of(act: Act, source: str) -> Outcome:
    """What becomes of that client's connection once the last change has landed."""
    act.land(["tcp-echo.foo", source])
    [seen] = sweep(act.rig, [case.lane for case in lanes([open_to(source)])])
    if seen.seen.kind is Kind.UNKNOWN:
        act.doubt(f"{seen.lane}: {seen.seen.describe()}")
    return Outcome.SUCCEEDED if seen.seen.kind is Kind.ANSWERED else Outcome.REJECTED


def condition(act: Act, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition ZtunnelAccepted of the object as it is now; empty where there is none in time."""
    kube = act.rig.kube
    key = kube.key(act.resolve(dict(body)))
    deadline = time.monotonic() + act.rig.profile.deadlines.barrier
    while True:
        stored = kube.get(key).or_raise(f"read {key}").body
        generation = str(stored["metadata"].get("generation", ""))
        for found in (stored.get("status") or {}).get("conditions") or []:
            # Istio writes the generation as a text.
            if found.get("type") == CONDITION and str(found.get("observedGeneration", "")) == generation:
                return dict(found)
        if time.monotonic() >= deadline:
            return {}
        time.sleep(PAUSE)  # each look is a request: a bounded poll


def must_be(act: Act, body: Mapping[str, Any], *, taken: bool) -> None:
    """Notes that the control plane takes the policy for ztunnel or says that it is unsupported; anything
    else ends the case."""
    found = condition(act, body)
    right = found.get("status") == ("True" if taken else "False")
    if not right or (not taken and found.get("reason") != UNSUPPORTED):
        wanted = "True" if taken else f"False, {UNSUPPORTED}"
        act.fail(
            Failure.READ_BACK,
            f"{body['metadata']['name']}: {told(found)}; it must be {wanted}",
        )
    act.passes(f"{body['metadata']['name']}: {told(found)}")


def told(found: Mapping[str, Any]) -> str:
    if not found:
        return f"there is no condition {CONDITION} of this generation"
    return f"{CONDITION} is {found.get('status')}, {found.get('reason')}: {found.get('message')}"
