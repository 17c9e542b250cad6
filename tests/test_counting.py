"""Attribution where no access log tells: which way is taken, and what the counters say."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from conformance import attributing, counting
from conformance.attributing import MARKER, settle_attribution
from conformance.attribution import AccessBook
from conformance.counting import DENIED, count, parse_counters
from conformance.errors import ProbeError
from conformance.evidence import Kind, Observation, Outcome
from conformance.in_force import Answer
from conformance.oracle import Decision, Shadow, Verdict
from conformance.profile import find_profile, load_profile
from conformance.scenario import Expectation
from conformance.sweep import Case, Lane, Probed, lanes
from conformance.topology import Ref
from conformance.verdict import Failure, Foretold, Status

SLEEP, ECHO = Ref(name="sleep", namespace="foo"), Ref(name="tcp-echo", namespace="foo")
SHADOWED = "tcp.rbac.istio_dry_run_deny_.shadow_denied"
LOG_LINE = (
    b'[2026-11-20T10:00:01.003Z] "- - -" 0 - - - "-" 27 33 4 - "-" "-" "-" "-" "10.0.0.2:9000" inbound|9000||'
    b" 127.0.0.6:52222 10.0.0.2:9000 10.0.0.1:43210 - -"
)


def test_counters_are_read_from_what_envoy_says() -> None:
    text = 'tcp.rbac.denied: 3\na.histogram: P0(nan,1) P25(nan,2)\nversion: "1.2"\n\nnonsense'
    assert parse_counters(text) == {DENIED: 3}


def cases(outcome: Outcome) -> list[Case]:
    return lanes([Expectation(source=SLEEP, target=ECHO, ports=(9000, 9001), outcome=outcome)])


def answers(targets: Sequence[Case], outcome: str, *, dry_run: bool = False) -> list[Answer]:
    shadow = Shadow(allowed=False, matching=()) if dry_run else None
    decision = Decision(verdict=Verdict(outcome), why="so", dry_run_deny=shadow)
    foretold = Foretold(outcome=outcome, deciders=(), why="so")
    return [Answer(lane=case.lane, decision=decision, foretold=foretold) for case in targets]


class Mesh:
    """A sidecar that counts up by `steps` between two readings, and a sweep that goes as `kind`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: Kind, **moved: int) -> None:
        names = {"denied": DENIED, "shadowed": SHADOWED}
        self.readings = [
            {names[name]: 7 for name in moved},
            {names[name]: 7 + value for name, value in moved.items()},
        ]
        self.kind = kind
        self.profile = load_profile(find_profile("bundled"))
        self.pods = {ref: SimpleNamespace(sidecar=True, address="10.0.0.1") for ref in (SLEEP, ECHO)}
        monkeypatch.setattr(counting, "ask_proxy", self.ask)
        monkeypatch.setattr(counting, "sweep", self.sweep)

    def ask(self, *_: Any) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.readings.pop(0).items())

    def sweep(self, _: object, targets: Sequence[Lane]) -> list[Probed]:
        seen = Observation(kind=self.kind)
        return [Probed(lane=lane, nonce="n", line="n", seen=seen) for lane in targets]


@pytest.mark.parametrize(
    ("kind", "moved", "status", "failure"),
    [
        (Kind.CLOSED, {"denied": 2}, Status.PASSED, None),
        (Kind.CLOSED, {"denied": 1}, Status.FAILED, Failure.WRONG_REASON),
        (Kind.CLOSED, {"denied": 3}, Status.INCONCLUSIVE, None),
        (Kind.CLOSED, {}, Status.INCONCLUSIVE, None),  # there is no such counter
        (Kind.ANSWERED, {"denied": 2}, Status.FAILED, Failure.EXPOSURE),
        (Kind.TIMED_OUT, {"denied": 2}, Status.INCONCLUSIVE, None),
    ],
)
def test_denials_are_counted(
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    moved: dict[str, int],
    status: Status,
    failure: Failure | None,
) -> None:
    targets = cases(Outcome.REJECTED)
    rig: Any = Mesh(monkeypatch, kind, **moved)
    counts = count(rig, targets, answers(targets, "denied"))
    assert (counts.denials[ECHO].status, counts.denials[ECHO].failure) == (status, failure)
    assert len(counts.forbidden) == 2


@pytest.mark.parametrize(("moved", "status"), [(2, Status.PASSED), (0, Status.FAILED)])
def test_dry_run_results_are_counted(monkeypatch: pytest.MonkeyPatch, moved: int, status: Status) -> None:
    targets = cases(Outcome.SUCCEEDED)
    rig: Any = Mesh(monkeypatch, Kind.ANSWERED, denied=0, shadowed=moved)
    counts = count(rig, targets, answers(targets, "allowed", dry_run=True))
    assert counts.dry_runs[ECHO].status is status
    assert (counts.denials[ECHO].status, counts.forbidden) == (Status.PASSED, ())


def test_a_refusal_by_transport_is_no_denial_of_rbac(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = cases(Outcome.REJECTED)
    rig: Any = Mesh(monkeypatch, Kind.CLOSED, denied=0)
    assert count(rig, targets, answers(targets, "refused")).denials[ECHO].status is Status.PASSED


def test_counters_that_cannot_be_read_conclude_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = cases(Outcome.REJECTED)
    rig: Any = Mesh(monkeypatch, Kind.CLOSED, denied=2)

    def broken(*_: Any) -> str:
        raise ProbeError("the exec stream broke")

    monkeypatch.setattr(counting, "ask_proxy", broken)
    counts = count(rig, targets, answers(targets, "denied"))
    assert counts.denials[ECHO].status is Status.INCONCLUSIVE
    assert "the exec stream broke" in counts.denials[ECHO].reason


@pytest.mark.parametrize(
    ("ways", "logged", "counted", "taken"),
    [
        (("access-log", "counters"), True, True, "access-log"),
        (("access-log", "counters"), False, True, "counters"),
        (("counters", "access-log"), True, True, "counters"),
        (("access-log", "counters"), False, False, "unavailable"),
        (("access-log",), False, False, "access-log"),  # no choice: a line that is missing is inconclusive
        ((), True, True, "unavailable"),
    ],
)
def test_the_first_way_that_works_is_taken(
    monkeypatch: pytest.MonkeyPatch, ways: tuple[str, ...], logged: bool, counted: bool, taken: str
) -> None:
    book = AccessBook()
    profile = SimpleNamespace(attribution=ways, deadlines=SimpleNamespace(attribution=0.05))
    sent: dict[tuple[str, str, int], int] = {}
    rig: Any = SimpleNamespace(
        profile=profile,
        attribution=next(iter(ways), "unavailable"),
        access=book,
        sent=sent,
        pods={SLEEP: SimpleNamespace(address="10.0.0.1", address_of=lambda _: "10.0.0.1")},
        forget=book.forget,
    )

    def sweep(_: object, targets: Sequence[Lane]) -> None:
        assert list(targets) == [MARKER]
        path = (str(ECHO), "10.0.0.1", 9000)
        sent[path] = sent.get(path, 0) + 1
        if logged:
            book.reader(str(ECHO))(LOG_LINE)

    monkeypatch.setattr(attributing, "sweep", sweep)
    monkeypatch.setattr(attributing, "counts_work", lambda *_: counted)
    settle_attribution(rig, lambda _: None)
    assert rig.attribution == taken
    assert book.count((str(ECHO), "10.0.0.1", 9000)) == 0
