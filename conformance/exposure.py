"""The exposure watch: from a step's agreement until the next change its forbidden paths are probed on and on.

The probers do it beside whatever else they are asked. One forbidden answer is a breach, told with the time at
which its connection was opened. Every connection is counted in `rig.sent`, so that the access logs still tell
whose line is whose.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from conformance.attribution import UNKNOWN_MANY, Path
from conformance.errors import ProbeError
from conformance.evidence import Outcome
from conformance.probe.session import Request, Session, Sighting, Watched
from conformance.rig import Rig
from conformance.sweep import Case, Lane, Probed, path_of
from conformance.verdict import Failure, Status, Verdict, is_breach

__all__ = ["EVERY", "Watch", "begin_watch", "delivered", "end_watch"]

EVERY = 0.05  # seconds between two rounds of a watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one prober watches; `paths` as the access book has them, by case."""

    session: Session
    nonce: str
    cases: tuple[Case, ...]
    paths: tuple[Path, ...]

    def nonces(self, watched: Watched) -> Iterator[tuple[Lane, str]]:
        for number in range(watched.rounds * len(self.cases)):
            yield self.cases[number % len(self.cases)].lane, f"{self.nonce}{number:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A watch that is on. `begun` (the case) and `started` are of time.monotonic; `line` is the step's."""

    begun: float
    started: float
    line: dict[str, Any]
    parts: tuple[Part, ...]


def begin_watch(rig: Rig, cases: Sequence[Case], line: dict[str, Any], *, begun: float) -> None:
    """Watches those of the cases that are forbidden; nothing where none is. `line`: the step's, in which
    `end_watch` writes down what came of it."""
    by_source: dict[Any, list[Case]] = {}
    for case in cases:
        if case.expectation.outcome is not Outcome.SUCCEEDED:
            by_source.setdefault(case.lane.source, []).append(case)
    parts = []
    for source, mine in by_source.items():
        try:
            session = rig.session(source)
        except ProbeError as error:
            _doubt(rig, line, error.message)
            continue
        nonce = f"n{secrets.token_hex(4)}"
        requests = [
            Request(
                id=str(number),
                host=rig.host(case.lane.target, case.lane.via),
                port=case.lane.port,
                line=f"port {case.lane.port} {{nonce}}",
                timeout=rig.profile.deadlines.probe,
            )
            for number, case in enumerate(mine)
        ]
        session.watch(requests, nonce=nonce, every=EVERY)
        paths = tuple(path_of(rig, case.lane) for case in mine)
        parts.append(Part(session=session, nonce=nonce, cases=tuple(mine), paths=paths))
    if parts:
        rig.watch = Watch(begun=begun, started=time.monotonic(), line=line, parts=tuple(parts))


def end_watch(rig: Rig) -> None:
    """Ends the watch that is on, if one is: to be called before anything is changed. A breach, or a watch of
    which nothing is known, is added to `rig.exposed` and becomes the step's result. Never raises."""
    watch, rig.watch = rig.watch, None
    if watch is None:
        return
    for part in watch.parts:
        part.session.unwatch()
    ended = [(part, part.session.watched()) for part in watch.parts]
    offset = (watch.started - watch.begun) * 1000
    line: dict[str, Any] = {
        "from_ms": round(offset, 3),
        "until_ms": round((time.monotonic() - watch.begun) * 1000, 3),
        "every_ms": EVERY * 1000,
        "lanes": sum(len(part.cases) for part in watch.parts),
        "probes": sum(watched.rounds * len(part.cases) for part, watched in ended),
        "kinds": {},
        "breaches": [],
        "lost": "; ".join(watched.lost for _, watched in ended if watched.lost),
    }
    watch.line["exposure"] = line
    kinds: Counter[str] = Counter()
    for part, watched in ended:
        _count(rig, part, watched)
        for sighting in watched.sightings:
            kinds[sighting.seen.kind.value] += sighting.count
            case = part.cases[int(sighting.id)]
            if _is_breach(rig, case, sighting):
                line["breaches"].append(_breach_line(case.lane, sighting, offset))
                _breach(rig, watch.line, case, sighting, offset)
    line["kinds"] = dict(kinds)
    if line["lost"]:
        _doubt(rig, watch.line, line["lost"])


def delivered(rig: Rig) -> list[Verdict]:
    """A failure for each probe of the case's watches whose bytes are in a backend's log by now."""
    return [
        Verdict(
            status=Status.FAILED,
            failure=Failure.DELIVERED,
            reason=f"{lane}: bytes sent after the landing are in the log of {', '.join(found)}",
        )
        for lane, nonce in rig.watched
        if (found := rig.logbook.heard(nonce))
    ]


def _count(rig: Rig, part: Part, watched: Watched) -> None:
    for path in part.paths:
        rig.sent[path] = rig.sent.get(path, 0) + (UNKNOWN_MANY if watched.lost else watched.rounds)
    rig.watched += part.nonces(watched)


def _is_breach(rig: Rig, case: Case, sighting: Sighting) -> bool:
    probed = Probed(lane=case.lane, nonce="", line="", seen=sighting.seen)
    expected = probed.expected(case.expectation.outcome, frozenset(rig.profile.denials))
    return is_breach(expected, sighting.seen)


def _breach_line(lane: Lane, sighting: Sighting, offset: float) -> dict[str, Any]:
    seen = asdict(sighting.seen) | {"kind": sighting.seen.kind.value}
    return {
        "from": str(lane.source),
        "to": str(lane.target),
        "via": lane.via,
        "port": lane.port,
        "workload": str(lane.workload),
        "workload_port": lane.workload_port,
        "opened_at": sighting.seen.opened_at,
        "offset_ms": round(offset + sighting.at_ms, 3),
        "count": sighting.count,
        "observed": seen,
        "described": sighting.seen.describe(),
    }


def _breach(rig: Rig, line: dict[str, Any], case: Case, sighting: Sighting, offset: float) -> None:
    opened = datetime.fromtimestamp(sighting.seen.opened_at, UTC)
    reason = (
        f"{case.lane} must stay {case.expectation.outcome.value} until the next change, but the connection "
        f"opened at {opened:%H:%M:%S.%f} UTC, {offset + sighting.at_ms:.0f} ms into the case and "
        f"{sighting.at_ms:.0f} ms after the rounds had agreed: {sighting.seen.describe()}"
    )
    _settle(rig, line, Verdict(status=Status.FAILED, failure=Failure.EXPOSURE, reason=reason))


def _doubt(rig: Rig, line: dict[str, Any], why: str) -> None:
    reason = f"whether the forbidden paths stayed closed until the next change is not known: {why}"
    _settle(rig, line, Verdict(status=Status.INCONCLUSIVE, reason=reason))


def _settle(rig: Rig, line: dict[str, Any], verdict: Verdict) -> None:
    """The first verdict of its kind stands for the others of it: they are in the record."""
    if verdict.status in [known.status for known in rig.exposed]:
        return
    rig.exposed.append(verdict)
    if line["status"] != Status.FAILED.value:
        line["status"] = verdict.status.value
        line["failure"] = verdict.failure.value if verdict.failure else None
        line["reason"] = verdict.reason
