"""What the functions of ambient and of routing make of what they see, without a mesh of either kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from conformance import evidence
from conformance.cluster.kube import Answer
from conformance.evidence import Kind, Observation
from conformance.newcomers import Asked, Newcomer
from conformance.test_ambient import AUDIT, condition, must_be
from conformance.test_routing import POLICIES, PORTS, SPLIT, _is_split, _told

ONE, TWO = (Newcomer(namespace="foo", address="10.0.0.1", name=name) for name in ("routed-v1", "routed-v2"))


def said(status: str, reason: str, generation: object = "2") -> dict[str, Any]:
    return {
        "type": "ZtunnelAccepted",
        "status": status,
        "reason": reason,
        "message": "ztunnel does not support the AUDIT action",
        "observedGeneration": generation,
    }


class Failed(Exception):
    pass


class Act:
    """An object of generation 2 whose conditions are one of `told` after another."""

    def __init__(self, *told: list[dict[str, Any]]) -> None:
        self.told = list(told)
        self.passed: list[str] = []
        kube = SimpleNamespace(key=lambda body: body["metadata"]["name"], get=self.get)
        self.rig = SimpleNamespace(kube=kube, profile=SimpleNamespace(deadlines=SimpleNamespace(barrier=0.3)))

    def get(self, key: str) -> Answer:
        conditions = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        return Answer(code=200, body={"metadata": {"generation": 2}, "status": {"conditions": conditions}})

    def resolve(self, value: Any) -> Any:
        return value

    def fail(self, failure: object, reason: str) -> NoReturn:
        raise Failed(reason)

    def passes(self, reason: str) -> None:
        self.passed.append(reason)


def test_the_condition_is_that_of_the_object_as_it_is_now() -> None:
    old, new = said("True", "Accepted", "1"), said("False", "UnsupportedValue")
    other = {"type": "WaypointAccepted", "status": "True", "observedGeneration": "2"}
    act: Any = Act([], [old], [other, new])
    assert condition(act, AUDIT) == new
    act = Act([said("True", "Accepted", 2)])
    assert condition(act, AUDIT)["status"] == "True"
    act = Act([old])
    assert condition(act, AUDIT) == {}


@pytest.mark.parametrize(
    ("found", "taken", "right"),
    [
        ([said("False", "UnsupportedValue")], False, True),
        ([said("True", "Accepted")], True, True),
        ([said("True", "Accepted")], False, False),
        ([said("False", "UnsupportedValue")], True, False),
        ([said("False", "Other")], False, False),
        ([], False, False),
        ([], True, False),
    ],
)
def test_what_the_control_plane_must_say(found: list[dict[str, Any]], taken: bool, right: bool) -> None:
    act: Any = Act(found)
    if right:
        must_be(act, AUDIT, taken=taken)
        assert act.passed == [
            f"audit: ZtunnelAccepted is {found[0]['status']}, {found[0]['reason']}: {found[0]['message']}"
        ]
    else:
        with pytest.raises(Failed, match="it must be"):
            must_be(act, AUDIT, taken=taken)


def asked(*heard: tuple[str, ...], kind: Kind = Kind.ANSWERED) -> list[Asked]:
    return [
        Asked(
            line="port 9000 n1",
            seen=Observation(kind=kind),
            testimony=evidence.Testimony(seen_in=names, complete=True),
            alive=True,
        )
        for names in heard
    ]


BOTH = [("routed-v1",), ("routed-v2",)]


@pytest.mark.parametrize(
    ("first", "second", "split"),
    [
        (asked(*BOTH), asked(("routed-v2",)), True),
        (asked(*BOTH), asked(*BOTH), False),
        (asked(("routed-v1",)), asked(("routed-v2",)), False),
        (asked(*BOTH), asked(("routed-v1",)), False),
        (asked(*BOTH, ("routed-v1", "routed-v2")), asked(("routed-v2",)), False),
        (asked(*BOTH), asked((), kind=Kind.CLOSED), False),
    ],
    ids=["split", "balanced", "one subset", "the other subset", "heard twice", "refused"],
)
def test_routing_is_in_force_where_each_port_goes_where_it_was_sent(
    first: list[Asked], second: list[Asked], split: bool
) -> None:
    found = {9000: first, 9001: second}
    assert _is_split(found, ONE, TWO) is split
    assert _told(found).startswith(f"9000: {len(first)} of {len(first)} answered, heard by ")


def test_the_routes_are_those_of_the_ports_by_weight() -> None:
    routes = {route["match"][0]["port"]: route["route"] for route in SPLIT["spec"]["tcp"]}
    assert tuple(routes) == PORTS
    for port, targets in routes.items():
        assert sum(target["weight"] for target in targets) == 100
        assert {target["destination"]["port"]["number"] for target in targets} == {port}
    assert [target["destination"]["subset"] for target in routes[9000]] == ["v1", "v2"]
    assert [outcomes for _, outcomes in POLICIES] == [(True, False), (False, False), (False, True)]
