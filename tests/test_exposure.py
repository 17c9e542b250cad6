"""The exposure watch with played probers: what is counted, what is a breach, what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.attribution import UNKNOWN_MANY
from conformance.evidence import Kind, Observation, Outcome
from conformance.exposure import begin_watch, delivered, end_watch
from conformance.logbook import LogBook
from conformance.probe.session import Request, Sighting, Watched
from conformance.profile import find_profile, load_profile
from conformance.run import _exposed
from conformance.scenario import Expectation
from conformance.sweep import Case, lanes
from conformance.topology import Ref
from conformance.verdict import Failure, Status

SLEEP, ECHO = Ref(name="sleep", namespace="foo"), Ref(name="tcp-echo", namespace="foo")
PATH = ("tcp-echo.foo", "10.0.0.1")


class Prober:
    """Tells what it is told to have seen."""

    def __init__(self, watched: Watched) -> None:
        self.result = watched
        self.requests: list[Request] = []
        self.nonce = ""
        self.asked: list[str] = []

    def watch(self, requests: Sequence[Request], *, nonce: str, every: float) -> None:
        self.requests, self.nonce = list(requests), nonce
        assert every > 0

    def unwatch(self) -> None:
        self.asked.append("unwatch")

    def watched(self) -> Watched:
        return self.result


def rig_with(prober: Prober) -> Any:
    return SimpleNamespace(
        profile=load_profile(find_profile("bundled")),
        pods={SLEEP: SimpleNamespace(address="10.0.0.1", address_of=lambda _: "10.0.0.1")},
        sent={},
        watch=None,
        watched=[],
        exposed=[],
        logbook=LogBook(),
        session=lambda _: prober,
        host=lambda target, _via: str(target),
    )


def cases(*outcomes: tuple[int, Outcome]) -> list[Case]:
    return lanes(
        Expectation(source=SLEEP, target=ECHO, ports=(port,), outcome=outcome) for port, outcome in outcomes
    )


def sighting(id_: str, kind: Kind, *, received: str = "", count: int = 1, at: float = 40.0) -> Sighting:
    seen = Observation(kind=kind, received=received, opened_at=1_790_000_000.25)
    return Sighting(id=id_, seen=seen, count=count, at_ms=at, last_ms=at)


def step() -> dict[str, Any]:
    return {"status": "passed", "failure": None, "reason": "so", "exposure": None}


TABLE = cases((9000, Outcome.SUCCEEDED), (9001, Outcome.REJECTED), (9003, Outcome.REJECTED))


def test_only_what_is_forbidden_is_watched_and_every_connection_is_counted() -> None:
    closed = sighting("0", Kind.CLOSED, count=7)
    greeted = sighting("1", Kind.BANNER, received="welcome\n", count=7)  # says nothing but who it is
    prober = Prober(Watched(rounds=7, sightings=(closed, greeted)))
    rig, line = rig_with(prober), step()
    begin_watch(rig, TABLE, line, begun=0.0)
    assert [request.port for request in prober.requests] == [9001, 9003]
    end_watch(rig)
    assert prober.asked == ["unwatch"]
    assert rig.sent == {(*PATH, 9001): 7, (*PATH, 9003): 7}
    assert (line["exposure"]["probes"], line["exposure"]["lanes"]) == (14, 2)
    assert line["exposure"]["kinds"] == {"closed": 7, "banner": 7}
    assert (line["exposure"]["breaches"], line["status"], rig.exposed) == ([], "passed", [])
    end_watch(rig)  # a second time is nothing
    assert prober.asked == ["unwatch"]


def test_a_single_answer_is_a_breach_with_its_time() -> None:
    answer = sighting("0", Kind.ANSWERED, received="hello port 9001 n1\n", at=40.0)
    prober = Prober(Watched(rounds=7, sightings=(sighting("0", Kind.CLOSED, count=6), answer)))
    rig, line = rig_with(prober), step()
    begin_watch(rig, TABLE[1:2], line, begun=0.0)
    end_watch(rig)
    (verdict,) = rig.exposed
    assert (verdict.status, verdict.failure) == (Status.FAILED, Failure.EXPOSURE)
    assert "sleep.foo -> tcp-echo.foo:9001 must stay rejected" in verdict.reason
    assert "opened at 14:13:20.250000 UTC" in verdict.reason
    assert "40 ms after the rounds had agreed" in verdict.reason
    assert (line["status"], line["reason"]) == ("failed", verdict.reason)
    (breach,) = line["exposure"]["breaches"]
    assert (breach["opened_at"], breach["count"], breach["port"]) == (1_790_000_000.25, 1, 9001)
    assert breach["offset_ms"] == pytest.approx(line["exposure"]["from_ms"] + 40, abs=0.01)


def test_a_watch_of_which_nothing_is_known_is_inconclusive_and_its_log_is_waited_for() -> None:
    rig, line = rig_with(Prober(Watched(lost="the exec stream broke"))), step()
    begin_watch(rig, TABLE[1:2], line, begun=0.0)
    end_watch(rig)
    assert [verdict.status for verdict in rig.exposed] == [Status.INCONCLUSIVE]
    assert "the exec stream broke" in rig.exposed[0].reason
    assert line["status"] == "inconclusive"
    assert rig.sent == {(*PATH, 9001): UNKNOWN_MANY}


def test_bytes_of_a_watch_in_a_backends_log_are_a_breach_though_its_client_saw_none() -> None:
    prober = Prober(Watched(rounds=2, sightings=(sighting("0", Kind.CLOSED, count=2),)))
    rig = rig_with(prober)
    begin_watch(rig, TABLE[1:2], step(), begun=0.0)
    end_watch(rig)
    assert delivered(rig) == []
    text = f"port 9001 {prober.nonce}00000001"
    rig.logbook.reader("tcp-echo.foo")({"log": "connection", "port": 9001, "text": text, "bytes": 28})
    assert [verdict.failure for verdict in delivered(rig)] == [Failure.DELIVERED]


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "delivered only"])
@pytest.mark.parametrize("by_others", [True, False], ids=["changed by others", "undisturbed"])
def test_what_others_opened_is_no_breach_of_the_mesh(answered: bool, by_others: bool) -> None:
    prober = Prober(Watched(sightings=(sighting("0", Kind.ANSWERED, received="hello"),) * answered, rounds=3))
    rig, line = rig_with(prober), step()
    begin_watch(rig, cases((9001, Outcome.REJECTED)), line, begun=0.0)
    end_watch(rig)
    rig.logbook.reader("tcp-echo.foo")(
        {"log": "connection", "port": 9001, "text": rig.watched[0][1], "bytes": 9}
    )
    hand: Any = SimpleNamespace(disturbed=lambda: ["p was changed"] * by_others)
    found = [*_exposed(rig, hand), *delivered(rig)]
    if by_others:
        assert [verdict.status for verdict in found] == [Status.INCONCLUSIVE] * answered
    else:
        assert Failure.DELIVERED in [verdict.failure for verdict in found]
