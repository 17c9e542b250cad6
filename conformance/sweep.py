"""A sweep: one probe on every path at once, each with a fresh nonce, and what came of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance.attribution import Path
from conformance.evidence import Kind, Observation, Outcome
from conformance.probe.session import Request
from conformance.rig import Rig
from conformance.scenario import VIA, Expectation, Scenario
from conformance.topology import SERVER_FIRST_PORTS, Ref
from conformance.verdict import Expected

__all__ = ["Case", "Lane", "Probed", "bypass", "lanes", "path_of", "sweep"]

CONTROL_PORT = 9000


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Lane:
    """A path through the mesh: a client, what it addresses, and the workload and port behind that."""

    source: Ref
    target: Ref
    via: str
    port: int
    workload: Ref
    workload_port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}{VIA[self.via]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A lane with what is expected of it."""

    lane: Lane
    expectation: Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One probe made: its lane, its nonce and line, and what the client saw."""

    lane: Lane
    nonce: str
    line: str
    seen: Observation
    misled: bool = False  # its name led elsewhere than to its Service: no matter of the mesh's

    def expected(self, outcome: Outcome, denials: frozenset[Kind]) -> Expected:
        return Expected(
            outcome=outcome,
            workload=str(self.lane.workload),
            line=self.line,
            denials=denials,
            server_first=self.lane.workload_port in SERVER_FIRST_PORTS,
        )


def lanes(expectations: Iterable[Expectation]) -> list[Case]:
    """One case per port of each expectation, in order."""
    return [
        Case(
            expectation=expectation,
            lane=Lane(
                source=expectation.source,
                target=expectation.target,
                via=expectation.via,
                port=port,
                workload=expectation.workload().ref,
                workload_port=expectation.workload_port(port),
            ),
        )
        for expectation in expectations
        for port in expectation.ports
    ]


def all_lanes(scenario: Scenario, dataplane: str) -> list[Lane]:
    """Every lane of a scenario once, in order; those of another data plane left out."""
    wanted = (item for step in scenario.steps for item in step.expect if item.dataplane in (None, dataplane))
    return list(dict.fromkeys(case.lane for case in lanes(wanted)))


def new_nonce() -> str:
    return f"n{secrets.token_hex(8)}"


def sweep(rig: Rig, targets: Sequence[Lane]) -> list[Probed]:
    """Probes all lanes at once; the results are in the order given. Never raises for a prober that is
    gone: what it should have seen is UNKNOWN."""
    hosts = [(lane.source, rig.host(lane.target, lane.via), lane.port) for lane in targets]
    results = _send(rig, hosts)
    for lane in targets:
        path = path_of(rig, lane)
        rig.sent[path] = rig.sent.get(path, 0) + 1
    return [
        _probed(rig, lane, nonce, line, seen)
        for lane, (nonce, line, seen) in zip(targets, results, strict=True)
    ]


def path_of(rig: Rig, lane: Lane) -> Path:
    """What the access book counts a lane's connections under."""
    return str(lane.workload), rig.pods[lane.source].address_of(lane.via), lane.workload_port


def _probed(rig: Rig, lane: Lane, nonce: str, line: str, seen: Observation) -> Probed:
    """The probe; what it saw is UNKNOWN where a name led elsewhere than to its Service."""
    wanted = rig.services.get(lane.target, "") if lane.via == "service" else ""
    found = seen.address.rpartition(":")[0]
    # Of a Service with addresses of both families one is known here.
    if wanted in ("", "None", found) or not found or (":" in wanted) != (":" in found):
        return Probed(lane=lane, nonce=nonce, line=line, seen=seen)
    why = f"the name of {lane.target} resolved to {found}, but its Service has {wanted}"
    unknown = Observation(kind=Kind.UNKNOWN, why=why, address=seen.address)
    return Probed(lane=lane, nonce=nonce, line=line, seen=unknown, misled=True)


def bypass(rig: Rig, targets: Iterable[tuple[Ref, int]]) -> dict[tuple[Ref, int], tuple[str, Observation]]:
    """Probes workload ports from inside their own pods, on loopback, where no policy has a say: proof that
    the backend lives, and a marker in its log. (nonce, observation) by workload and port."""
    wanted = list(dict.fromkeys(targets))
    found: dict[tuple[Ref, int], tuple[str, Observation]] = {}
    for _ in range(2):  # an exec stream that broke meanwhile is opened anew once
        asked = [each for each in wanted if each not in found or found[each][1].kind is Kind.UNKNOWN]
        results = _send(rig, [(ref, "127.0.0.1", port) for ref, port in asked])
        found |= {target: (nonce, seen) for target, (nonce, _, seen) in zip(asked, results, strict=True)}
    return found


def _send(rig: Rig, probes: Sequence[tuple[Ref, str, int]]) -> list[tuple[str, str, Observation]]:
    """(source, host, port) -> (nonce, line, observation), all at once."""
    by_source: dict[Ref, list[Request]] = {}
    made: list[tuple[Ref, Request, str]] = []
    for number, (source, host, port) in enumerate(probes):
        nonce = new_nonce()
        request = Request(
            id=str(number),
            host=host,
            port=port,
            line=f"port {port} {nonce}",
            timeout=rig.profile.deadlines.probe,
        )
        by_source.setdefault(source, []).append(request)
        made.append((source, request, nonce))
    broken = rig.open_sessions(by_source)
    for source, requests in by_source.items():
        if source not in broken:
            rig.session(source).start(requests)
    seen: dict[str, Observation] = {}
    for source in by_source:
        if source not in broken:
            seen |= rig.session_in_use(source).finish()
    return [
        (
            nonce,
            request.line,
            seen.get(request.id)
            or Observation(kind=Kind.UNKNOWN, why=broken.get(source, "the prober did not tell")),
        )
        for source, request, nonce in made
    ]
