"""A probe of a pod that was born inside a case is judged by both ends; doubt is inconclusive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from conformance import evidence
from conformance.evidence import Kind, Observation, Outcome
from conformance.newcomers import NAME, Asked, Newcomer, ask_all
from conformance.probe.session import Request
from conformance.profile import find_profile, load_profile
from conformance.verdict import Failure, Status

RIG: Any = SimpleNamespace(profile=SimpleNamespace(denials=(Kind.CLOSED, Kind.RESET)))
HEARD = evidence.Testimony(seen_in=(NAME,), complete=True)
UNHEARD = evidence.Testimony(seen_in=(), complete=True)
UNKNOWN = evidence.Testimony(seen_in=(), complete=False, why="no marker")


@pytest.mark.parametrize(
    ("kind", "testimony", "outcome", "alive", "status", "failure"),
    [
        (Kind.ANSWERED, HEARD, Outcome.SUCCEEDED, True, Status.PASSED, None),
        (Kind.CLOSED, UNHEARD, Outcome.REJECTED, True, Status.PASSED, None),
        (Kind.ANSWERED, HEARD, Outcome.REJECTED, True, Status.FAILED, Failure.EXPOSURE),
        (Kind.CLOSED, HEARD, Outcome.REJECTED, True, Status.FAILED, Failure.DELIVERED),
        (Kind.ANSWERED, UNHEARD, Outcome.SUCCEEDED, True, Status.FAILED, Failure.WRONG_BACKEND),
        (Kind.CLOSED, UNHEARD, Outcome.SUCCEEDED, True, Status.FAILED, Failure.OVER_BLOCKING),
        (Kind.CLOSED, UNKNOWN, Outcome.REJECTED, True, Status.INCONCLUSIVE, None),
        (Kind.CLOSED, UNHEARD, Outcome.REJECTED, False, Status.INCONCLUSIVE, None),
        (Kind.UNKNOWN, UNHEARD, Outcome.REJECTED, True, Status.INCONCLUSIVE, None),
    ],
)
def test_both_ends_are_heard(
    kind: Kind,
    testimony: evidence.Testimony,
    outcome: Outcome,
    alive: bool,
    status: Status,
    failure: Failure | None,
) -> None:
    seen = Observation(kind=kind, received="hello" if kind is Kind.ANSWERED else "", why="gone")
    asked = Asked(line="port 9000 n1", seen=seen, testimony=testimony, alive=alive)
    verdict = asked.verdict(RIG, outcome)
    assert (verdict.status, verdict.failure) == (status, failure), verdict.reason


class Played:
    """A pod that hears every line, its prober, and the API that has its log."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.profile = load_profile(find_profile("bundled"))
        self.kube = self
        self._sent: Sequence[Request] = ()

    def session(self, _: object) -> Played:
        return self

    def start(self, requests: Sequence[Request]) -> None:
        self._sent = requests
        self.log += [request.line for request in requests]

    def finish(self) -> dict[str, Observation]:
        return {request.id: Observation(kind=Kind.ANSWERED) for request in self._sent}

    def open(self, _: str, query: Mapping[str, str]) -> Any:
        lines = self.log[-int(query["tailLines"]) :] if "tailLines" in query else self.log
        return SimpleNamespace(status=200, text="\n".join(lines).encode())

    def read(self, response: Any) -> bytes:
        return bytes(response.text)


def test_the_whole_log_of_a_pod_testifies(monkeypatch: pytest.MonkeyPatch) -> None:
    played: Any = Played()

    def say(_: object, __: object, ___: int, marker: str) -> bool:
        played.log.append(marker)
        return True

    monkeypatch.setattr("conformance.newcomers._say", say)
    pod = Newcomer(namespace="foo", address="10.0.0.1")
    asked = ask_all(played, "sleep.foo", pod.address, [9000] * 48, [pod])
    assert {item.testimony for item in asked} == {HEARD}


def test_a_dead_port_does_not_hide_what_another_one_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    played: Any = Played()

    def say(_: object, __: object, port: int, marker: str) -> bool:
        played.log += [marker] if port == 9000 else []
        return port == 9000

    monkeypatch.setattr("conformance.newcomers._say", say)
    pod = Newcomer(namespace="foo", address="10.0.0.1")
    heard, dead = ask_all(played, "sleep.foo", pod.address, [9000, 9001], [pod])
    assert (heard.alive, heard.testimony.seen_in) == (True, (NAME,))
    assert (dead.alive, dead.testimony.complete) == (False, False)
