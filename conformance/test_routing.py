"""Cases of routing that data cannot say: two pods stand behind one Service."""

from __future__ import annotations

import time
from typing import Any

import pytest

from conformance.act import Act, policy
from conformance.evidence import Kind, Outcome
from conformance.newcomers import Asked, Newcomer, ask_all, newcomer
from conformance.topology import Ref
from conformance.verdict import worst

CLIENT = "sleep.foo"
SERVICE = "routed"
PORTS = (9000, 9001)
TIMES = (
    24  # probes of each port: that one of two equal subsets goes without any has a chance of 1 to 8 million
)
NAMED = {"name": SERVICE, "namespace": "${foo}"}
BEHIND: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": NAMED,
    "spec": {
        "selector": {"app": SERVICE},
        "ports": [{"name": f"tcp-{port}", "appProtocol": "tcp", "port": port} for port in PORTS],
    },
}
SUBSETS: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": NAMED,
    "spec": {
        "host": SERVICE,
        "subsets": [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")],
    },
}


def route(port: int, **weights: int) -> dict[str, Any]:
    """A TCP route of that port, by weight of the subsets."""
    return {
        "match": [{"port": port}],
        "route": [
            {"destination": {"host": SERVICE, "port": {"number": port}, "subset": subset}, "weight": weight}
            for subset, weight in weights.items()
        ],
    }


# 9001 goes to one subset only, which without this it would not do: that is how it is known to be in force.
SPLIT: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": NAMED,
    "spec": {"hosts": [SERVICE], "tcp": [route(9000, v1=50, v2=50), route(9001, v2=100)]},
}
# The walkthrough's policies, and what becomes of 9000 and 9001 under each without any routing.
POLICIES = (
    (policy("only-9000", {"rules": [{"to": [{"operation": {"ports": ["9000"]}}]}]}), (True, False)),
    (
        policy("mixed", {"rules": [{"to": [{"operation": {"ports": ["9000"], "methods": ["GET"]}}]}]}),
        (False, False),
    ),
    (
        policy("deny-9000", {"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9000"]}}]}]}),
        (False, True),
    ),
)


@pytest.mark.requirements("DOC-17", features=["routing"])
def test_two_subsets(act: Act) -> None:
    """Under a VirtualService that splits TCP over two subsets every policy decides as without it"""
    real = act.rig.names.real("foo")
    labels = {"app": SERVICE}
    with (
        newcomer(act.rig, real, name="routed-v1", labels=labels | {"version": "v1"}) as one,
        newcomer(act.rig, real, name="routed-v2", labels=labels | {"version": "v2"}) as two,
    ):
        for body in (BEHIND, SUBSETS, SPLIT):
            act.apply(body)
        _land(act, one, two)
        begun = time.monotonic()
        while not _is_split(asked := _ask(act, one, two), one, two):
            if time.monotonic() - begun > act.rig.profile.deadlines.baseline:
                act.doubt(f"the routing is not in force: {_told(asked)}")
        _control(act, "baseline", asked)
        told = [f"without a policy {_told(asked)}"]
        for body, outcomes in POLICIES:
            act.apply(body)
            _land(act, one, two)
            asked = _ask(act, one, two)
            for port, allowed in zip(PORTS, outcomes, strict=True):
                wanted = Outcome.SUCCEEDED if allowed else Outcome.REJECTED
                act.settle(worst([item.verdict(act.rig, wanted) for item in asked[port]]))
            told.append(f"under {body['metadata']['name']} {_told(asked)}")
            act.delete(body)
        _land(act, one, two)
        _control(act, "recovery", _ask(act, one, two))
    act.passes("; ".join(told))


def _land(act: Act, one: Newcomer, two: Newcomer) -> None:
    act.land([CLIENT], pods=[one.key, two.key])


def _ask(act: Act, one: Newcomer, two: Newcomer) -> dict[int, list[Asked]]:
    host = act.rig.host(Ref(name=SERVICE, namespace="foo"), "service")
    asked = ask_all(act.rig, CLIENT, host, [port for port in PORTS for _ in range(TIMES)], [one, two])
    return {port: asked[number * TIMES : (number + 1) * TIMES] for number, port in enumerate(PORTS)}


def _is_split(asked: dict[int, list[Asked]], one: Newcomer, two: Newcomer) -> bool:
    """Whether everything answers, 9000 at both subsets and 9001 at the second alone."""
    if any(item.seen.kind is not Kind.ANSWERED for items in asked.values() for item in items):
        return False
    heard = {port: {item.testimony.seen_in for item in items} for port, items in asked.items()}
    return heard == {9000: {(one.name,), (two.name,)}, 9001: {(two.name,)}}


def _control(act: Act, name: str, asked: dict[int, list[Asked]]) -> None:
    """One probe of each port for the record: the one that did not answer, where there is one."""
    seen = {
        port: next((item for item in items if item.seen.kind is not Kind.ANSWERED), items[0]).seen
        for port, items in asked.items()
    }
    act.control(name, CLIENT, SERVICE, seen)


def _told(asked: dict[int, list[Asked]]) -> str:
    """How many of each port were answered, and by whom."""
    parts = []
    for port, items in asked.items():
        answered = sum(item.seen.kind is Kind.ANSWERED for item in items)
        heard = sorted({name for item in items for name in item.testimony.seen_in})
        parts.append(f"{port}: {answered} of {len(items)} answered, heard by {', '.join(heard) or 'nobody'}")
    return "; ".join(parts)
