"""What is seen and recorded without a verdict: documented traps, and behaviour that nobody has promised.

Each finding says what was seen; why it matters and what a user can do is in findings.yaml. A case
fails or is inconclusive only where it could not be measured.
"""

from __future__ import annotations

import time

import pytest

from conformance.act import Act, policy, row
from conformance.evidence import Outcome
from conformance.mesh import counters
from conformance.newcomers import ask, hold, newcomer
from conformance.scenario import By
from conformance.topology import Ref

DENY_ALL = policy("deny-all", {})
CLOSED = [row("sleep.foo", "tcp-echo.foo", 9000, outcome="rejected", by=By(policy=None))]
OPEN = [row("sleep.foo", "tcp-echo.foo", 9000, outcome="succeeded")]
BLANK_FROM = policy("blank-from", {"rules": [{"from": [], "to": []}]})
MISSPELT = policy("misspelt", {"rules": [{"to": [{"operation": {"ports": ["9000"]}}], "form": []}]})
NOT_BAR = policy("not-bar", {"rules": [{"from": [{"source": {"notNamespaces": ["${bar}"]}}]}]})
ASK_HTTP = policy("ask", {"action": "CUSTOM", "provider": {"name": "conformance-http"}, "rules": [{}]})
SILENT_SECONDS = 0.5
UPSTREAM = "cluster.inbound-original-destination.upstream_cx_total"


@pytest.mark.requirements("RUN-04")
def test_silent_client(act: Act) -> None:
    """A client that never sends is not judged and receives the banner of a server that speaks first"""
    act.begin(CLOSED)
    act.apply(DENY_ALL)
    act.expect(CLOSED, what="everything is denied")
    seen = {}
    for port in (9000, 9003):
        with hold(act.rig, "sleep.foo", "tcp-echo.foo", port, line="", limit=SILENT_SECONDS) as held:
            ended, _, _ = held.end()
        heard = "nothing" if held.first is None else repr(held.first)
        seen[port] = f"it heard {heard} and the connection " + ("was ended" if ended else "stayed open")
    act.observe(
        "RUN-04",
        severity="medium",
        seen=f"with everything denied, a client that sends nothing: on 9000 {seen[9000]}; on 9003, where the "
        f"server speaks first, {seen[9003]}",
    )


@pytest.mark.requirements("RUN-05", features=["proxy-admin"])
def test_upstream_dialled_first(act: Act) -> None:
    """Whether the application is dialled for connections that are then denied"""
    target = Ref.parse("tcp-echo.foo")
    names = (UPSTREAM, "tcp.rbac.denied")
    act.begin(CLOSED)
    before = counters(act.rig, target, names)
    act.sweep(OPEN)
    if counters(act.rig, target, names)[UPSTREAM] - before[UPSTREAM] != 1:
        act.doubt(f"an allowed connection does not move {UPSTREAM}, so that nothing can be concluded")
    act.apply(DENY_ALL)
    act.expect(CLOSED, what="everything is denied")
    act.rest()
    before = counters(act.rig, target, names)
    act.sweep(CLOSED)
    after = counters(act.rig, target, names)
    denied = after[names[1]] - before[names[1]]
    if denied != 1:
        act.doubt(f"one connection was to be denied, the sidecar counted {denied}")
    dialled = after[UPSTREAM] - before[UPSTREAM]
    act.observe(
        "RUN-05",
        severity="low",
        seen=f"for 1 denied connection the sidecar dialled the application {dialled} times",
    )


@pytest.mark.requirements("LIFE-07", "LIFE-08")
def test_established_connections(act: Act) -> None:
    """What becomes of open connections when a policy changes, of forbidden and of allowed ones"""
    drain = act.rig.profile.drain_seconds
    forbidden, allowed, _ = held_over_a_change(act, limit=drain * 2 + 2)
    act.observe(
        "LIFE-07",
        severity="medium",
        seen=f"an open connection that a new policy forbids {forbidden} (declared drain time: {drain:g} s)",
    )
    act.observe(
        "LIFE-08",
        severity="low",
        seen=f"an open connection that the new policy allows {allowed}",
    )


@pytest.mark.requirements("AMB-05", features=["ztunnel"])
def test_established_connections_in_ambient(act: Act) -> None:
    """Whether ztunnel ends open connections that a new policy forbids, and those that it allows"""
    deadlines = act.rig.profile.deadlines
    # Held until the policy is proven to have landed, however long that takes.
    forbidden, allowed, outlived = held_over_a_change(act, limit=deadlines.barrier + deadlines.converge)
    if outlived is None:
        act.doubt("the connections were not held until the policy had landed")
    act.observe(
        "AMB-05",
        severity="medium" if outlived else "low",
        seen=f"an open connection that a new policy forbids {forbidden}; one that it allows {allowed}",
    )


def held_over_a_change(act: Act, *, limit: float) -> tuple[str, str, bool | None]:
    """What became of an open connection that a new policy forbids, and of one that it allows, both held for
    `limit` seconds, in words; and whether the forbidden one lived on once the policy had landed, None = it
    was not held that long."""
    table = [
        row("sleep.foo", "tcp-echo.foo", 9000, outcome="succeeded"),
        row("sleep.foo", "tcp-echo.foo", 9001, outcome="rejected"),
    ]
    act.begin(table)
    with (
        hold(act.rig, "sleep.foo", "tcp-echo.foo", 9000, line="allowed", limit=limit) as allowed,
        hold(act.rig, "sleep.foo", "tcp-echo.foo", 9001, line="forbidden", limit=limit) as forbidden,
    ):
        if not allowed.first or not forbidden.first:
            act.doubt("the connections to be held did not come about")
        act.apply(policy("only-9000", {"rules": [{"to": [{"operation": {"ports": ["9000"]}}]}]}))
        applied = time.monotonic()
        act.expect(table, what="9001 is forbidden from now on")
        landed = time.monotonic()
        told: list[str] = []
        outlived: bool | None = None
        for held in (forbidden, allowed):
            ended, after, answered = held.end()
            since = applied - held.since
            how = (
                f"was cut ({ended}) {after - since:.1f} s" if ended else f"still lived {after - since:.1f} s"
            )
            told.append(f"{how} after it, and was answered until {answered - since:.1f} s after it")
            if held is forbidden and (ended or after >= landed - held.since):
                outlived = not ended
    return told[0], told[1], outlived


@pytest.mark.requirements("SCOPE-10")
def test_excluded_port(act: Act) -> None:
    """Whether a port that is excluded from capture is covered by policies"""
    real = act.rig.names.real("foo")
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "9002"}
    with newcomer(act.rig, real, annotations) as pod:
        before = {port: ask(act.rig, "sleep.foo", pod, port).seen for port in (9000, 9002)}
        act.control("baseline", "sleep.foo", pod.key, before)
        act.apply(DENY_ALL)
        act.land(["tcp-echo.foo"], pods=[pod.key])
        covered = ask(act.rig, "sleep.foo", pod, 9000)
        excluded = ask(act.rig, "sleep.foo", pod, 9002)
        act.delete(DENY_ALL)
        act.land(["tcp-echo.foo"], pods=[pod.key])
        act.control("recovery", "sleep.foo", pod.key, {9000: ask(act.rig, "sleep.foo", pod, 9000).seen})
    act.settle(covered.verdict(act.rig, Outcome.REJECTED))
    opened = excluded.verdict(act.rig, Outcome.SUCCEEDED).passed
    if not opened:
        act.settle(excluded.verdict(act.rig, Outcome.REJECTED))
    act.observe(
        "SCOPE-10",
        severity="high" if opened else "low",
        seen=f"with everything denied, the port in excludeInboundPorts: {excluded.seen.describe()}; beside "
        f"it: {covered.seen.describe()}",
    )


@pytest.mark.requirements("EMPTY-09")
def test_blank_lists(act: Act) -> None:
    """An ALLOW rule whose from and to are blank admits everybody to every port"""
    table = [row("sleep.legacy", "tcp-echo.foo", 9000, 9001, outcome="succeeded", by=By(policy="blank-from"))]
    act.begin(table)
    warnings = act.apply(BLANK_FROM)
    act.expect(table, what="the policy with blank lists is in force")
    act.observe(
        "EMPTY-09",
        severity="high",
        seen="a rule with blank `from` and `to` admitted a client without identity to every port; the API "
        f"gave {len(warnings)} warnings",
    )


@pytest.mark.requirements("PLAIN-02", features=["mtls"])
def test_negative_identity(act: Act) -> None:
    """An ALLOW rule that only excludes identities admits a client that has none"""
    table = [
        row("sleep.legacy", "tcp-echo.foo", 9000, outcome="succeeded", by=By(policy="not-bar", rule=0)),
        row("sleep.bar", "tcp-echo.foo", 9000, outcome="rejected", by=By(policy=None)),
    ]
    act.begin(table)
    act.apply(NOT_BAR)
    act.expect(table, what="all but one namespace are allowed")
    act.observe(
        "PLAIN-02",
        severity="high",
        seen="ALLOW with notNamespaces alone admitted a plaintext client",
    )


@pytest.mark.requirements("ORDER-11", features=["custom"])
def test_http_authorizer(act: Act) -> None:
    """A CUSTOM policy whose authorizer speaks HTTP leaves TCP ports open"""
    table = [row("sleep.foo", "tcp-echo.foo", 9000, 9001, outcome="succeeded")]
    act.begin(table)
    warnings = act.apply(ASK_HTTP)
    act.expect(table, what="the policy with an HTTP authorizer is in force")
    act.observe(
        "ORDER-11",
        severity="high",
        seen="CUSTOM with a provider of HTTP was ignored on TCP: every connection passed, and nobody was "
        f"asked; the API warned: {'; '.join(warnings) or 'nothing'}",
    )


@pytest.mark.requirements("VALID-15")
def test_misspelt_field(act: Act) -> None:
    """A misspelt field beside a right one is dropped and the ALLOW rule is wider than it was written"""
    table = [
        row("sleep.legacy", "tcp-echo.foo", 9000, outcome="succeeded", by=By(policy="misspelt", rule=0)),
        row("sleep.legacy", "tcp-echo.foo", 9001, outcome="rejected", by=By(policy=None)),
    ]
    act.begin(table)
    warnings = act.apply(MISSPELT)
    act.expect(table, what="the policy with a misspelt `from` is in force")
    act.observe(
        "VALID-15",
        severity="medium",
        seen="`form` instead of `from` was dropped and the rule admitted every client to its port; the API "
        f"warned: {'; '.join(warnings) or 'nothing'}",
    )
