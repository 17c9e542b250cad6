"""A look at one lane through a mesh that is played: what its client sees, and what its access log tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.attribution import AccessBook
from conformance.evidence import Kind, Observation, Outcome
from conformance.logbook import LogBook
from conformance.look import Context, look
from conformance.notes import Notes
from conformance.open_paths import hold_baseline
from conformance.profile import find_profile, load_profile
from conformance.rig import Rig
from conformance.scenario import By, Expectation
from conformance.sweep import Case, Lane, Probed, lanes
from conformance.topology import Ref
from conformance.verdict import Failure, Status, Verdict, worst

SLEEP, ECHO = Ref(name="sleep", namespace="foo"), Ref(name="tcp-echo", namespace="foo")
ALLOWED = {"allowed_by": "ns[foo]-policy[p]-rule[0]"}
STARTED = {**ALLOWED, "time": "2026-11-22T12:00:00.000Z"}
DENIED = {"termination_details": "rbac_access_denied_matched_policy[none]"}
Told = dict[str, str] | None


@dataclass(kw_only=True)
class Mesh:
    """Plays rounds of (what the client sees, what the access log tells), the last one again and again."""

    rounds: list[tuple[Kind, Told]]
    sent: dict[tuple[str, str, int], int] = field(default_factory=dict)
    logbook: LogBook = field(default_factory=LogBook)
    access: AccessBook = field(default_factory=AccessBook)
    restarted: list[str] = field(default_factory=list)
    owed: frozenset[object] = frozenset()

    def __post_init__(self) -> None:
        profile = load_profile(find_profile("bundled"))
        self.profile = replace(profile, deadlines=replace(profile.deadlines, attribution=0.05, converge=60))
        pod = SimpleNamespace(address="10.0.0.1", address_of=lambda _: "10.0.0.1", sidecar=True)
        self.pods = {SLEEP: pod, ECHO: pod}

    attribution = "access-log"

    def replaced(self, _: object) -> list[str]:
        return self.restarted

    def silent_backends(self) -> list[str]:
        return []

    def await_log(self, nonces: Mapping[str, str], *, deadline: float) -> set[str]:
        return self.logbook.wait_for(nonces, deadline=deadline)

    def silent_sidecars(self) -> list[str]:
        return []

    def overdue(self) -> frozenset[object]:
        return self.owed

    def settle(self) -> None:
        """Its access log is never late."""

    def sweep(self, _: object, targets: Sequence[Lane]) -> list[Probed]:
        kind, told = self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]
        path = (str(ECHO), "10.0.0.1", 9000)
        number = self.sent[path] = self.sent.get(path, 0) + 1
        nonce = f"n{number:016x}"
        if kind is Kind.ANSWERED:
            text = {"log": "connection", "port": 9000, "text": nonce, "bytes": 9}
            self.logbook.reader(str(ECHO))(text)
        if told is not None:
            entry = {"source_ip": "10.0.0.1", "destination_port": 9000, **told}
            line = {"log": "access", "direction": "inbound", **entry}
            self.access.reader(str(ECHO))(json.dumps(line).encode())
        return [Probed(lane=targets[0], nonce=nonce, line=nonce, seen=Observation(kind=kind))]


def judge(monkeypatch: pytest.MonkeyPatch, mesh: Mesh, outcome: Outcome, by: By | None) -> Verdict:
    expectation = Expectation(source=SLEEP, target=ECHO, ports=(9000,), outcome=outcome, by=by)
    cases: list[Case] = lanes([expectation])
    alive = {(ECHO, 9000): Observation(kind=Kind.ANSWERED)}
    monkeypatch.setattr("conformance.look.sweep", mesh.sweep)
    monkeypatch.setattr("conformance.look.begin_watch", lambda *_, **__: None)
    monkeypatch.setattr("conformance.look.foretell", lambda *_: [])
    monkeypatch.setattr("conformance.look.markers", lambda *_: ("", alive, []))
    context = Context(begun=0, applied=0, baseline={cases[0].lane}, findings=[], forbidden=[])
    hand: Any = SimpleNamespace(is_custom=lambda _: False, resolve=lambda text: text.replace("${foo}", "foo"))
    line: dict[str, Any] = {"rounds": [], "probes": [], "timings": {}}
    rig: Any = mesh
    return worst(look(rig, hand, cases, line, context))


def test_who_decided_before_the_rounds_agreed_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(rounds=[(Kind.CLOSED, DENIED), (Kind.ANSWERED, ALLOWED)])
    verdict = judge(monkeypatch, mesh, Outcome.SUCCEEDED, By(policy="p", rule=0))
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("told", "status", "failure"),
    [
        (DENIED, Status.PASSED, None),
        (ALLOWED, Status.FAILED, Failure.WRONG_REASON),
        (None, Status.INCONCLUSIVE, None),  # it ended somewhere on the way
    ],
)
def test_a_rejection_is_told_by_the_workloads_own_sidecar(
    monkeypatch: pytest.MonkeyPatch, told: Told, status: Status, failure: Failure | None
) -> None:
    verdict = judge(monkeypatch, Mesh(rounds=[(Kind.CLOSED, told)]), Outcome.REJECTED, None)
    assert (verdict.status, verdict.failure) == (status, failure), verdict


def test_an_exposure_before_the_rounds_agreed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(rounds=[(Kind.TIMED_OUT, None), (Kind.ANSWERED, ALLOWED), (Kind.CLOSED, DENIED)])
    assert judge(monkeypatch, mesh, Outcome.REJECTED, None).failure is Failure.EXPOSURE


@pytest.mark.parametrize(
    ("outcome", "seen", "status", "failure"),
    [
        (Outcome.SUCCEEDED, (Kind.CLOSED, DENIED), Status.INCONCLUSIVE, None),
        (Outcome.REJECTED, (Kind.CLOSED, DENIED), Status.INCONCLUSIVE, None),
        (Outcome.REJECTED, (Kind.ANSWERED, ALLOWED), Status.FAILED, Failure.EXPOSURE),
    ],
)
def test_where_a_workload_was_restarted_only_what_got_through_counts(
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    seen: tuple[Kind, Told],
    status: Status,
    failure: Failure | None,
) -> None:
    mesh = Mesh(rounds=[seen], restarted=["istio-proxy of tcp-echo.foo"])
    mesh.profile = replace(mesh.profile, deadlines=replace(mesh.profile.deadlines, converge=0.2))
    verdict = judge(monkeypatch, mesh, outcome, None)
    assert (verdict.status, verdict.failure) == (status, failure), verdict
    assert failure or "istio-proxy of tcp-echo.foo" in verdict.reason


@pytest.mark.parametrize(("kind", "told"), [(Kind.CLOSED, DENIED), (Kind.CLOSED, ALLOWED)])
def test_where_the_log_owes_earlier_lines_nobody_knows_whose_line_is_whose(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, told: Told
) -> None:
    mesh = Mesh(rounds=[(kind, told)], owed=frozenset({(str(ECHO), "10.0.0.1", 9000)}))
    verdict = judge(monkeypatch, mesh, Outcome.REJECTED, None)
    assert verdict.status is Status.INCONCLUSIVE
    assert "has not told of all earlier connections" in verdict.reason


@pytest.mark.parametrize(
    ("rounds", "sent"),
    [
        ([(Kind.REFUSED, None), (Kind.REFUSED, None), (Kind.ANSWERED, STARTED)], 0),
        ([(Kind.ANSWERED, STARTED)], 1),
    ],
)
def test_baseline_probes_that_reached_nobody_owe_no_entry(
    monkeypatch: pytest.MonkeyPatch, rounds: list[tuple[Kind, Told]], sent: int
) -> None:
    mesh = Mesh(rounds=rounds)
    rig: Any = mesh
    rig._told = lambda: mesh.sent
    rig.recount = lambda: Rig.recount(rig)
    lane = lanes([Expectation(source=SLEEP, target=ECHO, ports=(9000,), outcome=Outcome.SUCCEEDED)])[0].lane
    monkeypatch.setattr("conformance.open_paths.sweep", mesh.sweep)
    notes = Notes(begun=0)
    hold_baseline(rig, [lane], notes)
    assert notes.baseline == {lane}
    assert sum(mesh.sent.values()) == sent
    assert Rig.overdue(rig) == frozenset()
