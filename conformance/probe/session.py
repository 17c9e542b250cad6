"""One prober in one workload, reached over one open stream: a sweep is one line out and one line back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from conformance.errors import ProbeError
from conformance.evidence import Kind, Observation

__all__ = ["CLIENT_COMMAND", "LineStream", "Request", "Session", "Sighting", "Watched"]

_SOURCE = (Path(__file__).parent / "client.py").read_text(encoding="utf-8").rstrip("\n") + "\n"
# -I -S: nothing of the workload's environment or site packages takes part. The client itself goes over
# standard input, because a command is a part of the URL, and servers and proxies limit those.
CLIENT_COMMAND = ("python3", "-I", "-S", "-c", f"import sys; exec(sys.stdin.read({len(_SOURCE)}))")
# What a round trip may take beyond the probes' own deadline, in seconds.
ROUND_TRIP = 30.0


class LineStream(Protocol):
    """What `cluster.exec.ExecStream` is; a fake needs three methods."""

    def send(self, line: str) -> None: ...
    def receive(self, deadline: float) -> str: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One connection to make. `timeout` in seconds, from the connect on."""

    id: str
    host: str
    port: int
    line: str
    timeout: float

    @property
    def answer(self) -> str:
        return f"hello {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a watch saw `count` times on the path of request `id`; milliseconds from its first probe on."""

    id: str
    seen: Observation
    count: int
    at_ms: float
    last_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What came of a watch. `lost`: why nothing is known of it; empty = all is."""

    rounds: int = 0
    sightings: tuple[Sighting, ...] = ()
    lost: str = ""


class Session:
    """Requests are answered in the order they were sent; `who` names the workload in messages."""

    def __init__(self, stream: LineStream, who: str) -> None:
        self._stream = stream
        self._number = 0
        self._pending: tuple[int, tuple[Request, ...]] | None = None
        self.who = who
        self.broken = ""

    def boot(self, timeout: float) -> None:
        """Starts the client, waiting `timeout` seconds at most. Raises ProbeError where it does not (no
        python3, the pod gone)."""
        self._stream.send(_SOURCE.rstrip("\n"))
        try:
            hello = json.loads(self._stream.receive(time.monotonic() + timeout))
        except ValueError:
            hello = {}
        if "ready" not in hello:
            raise ProbeError(f"the prober in {self.who} did not start")

    def start(self, requests: Sequence[Request]) -> None:
        """Sends a sweep without waiting. A stream that is gone shows in `finish`."""
        self._send({"probes": [_spec(request) for request in requests]})
        self._pending = (self._number, tuple(requests))

    def _send(self, content: dict[str, Any]) -> None:
        self._number += 1
        try:
            self._stream.send(json.dumps({"id": self._number, **content}))
        except ProbeError as error:
            self.broken = error.message

    def watch(self, requests: Sequence[Request], *, nonce: str, every: float) -> None:
        """Makes the client repeat these, `every` seconds, until `unwatch`; sweeps may go on meanwhile.
        `{nonce}` in a line stands for `nonce` (n and 8 hexadecimal digits) and the probe's number."""
        probes = [_spec(request) for request in requests]
        self._send({"watch": {"probes": probes, "nonce": nonce, "every": every}})

    def unwatch(self) -> None:
        """Ends the watch, without waiting; `watched` tells what came of it."""
        if not self.broken:
            self._send({"unwatch": True})

    def watched(self) -> Watched:
        """What the watch saw, after `unwatch`. Never raises: a prober that cannot tell is `lost`."""
        if not self.broken:
            try:
                answer = json.loads(self._stream.receive(time.monotonic() + ROUND_TRIP))
                if answer["id"] == self._number:
                    sightings = tuple(map(_sighting, answer["seen"]))
                    return Watched(rounds=answer["rounds"], sightings=sightings, lost=answer["lost"])
                self.broken = f"the prober in {self.who} answered request {answer['id']}, not {self._number}"
            except ProbeError as error:
                self.broken = error.message
            except (ValueError, KeyError, TypeError) as error:
                self.broken = f"the prober in {self.who} wrote what it never writes: {error}"
        return Watched(lost=self.broken)

    def finish(self) -> dict[str, Observation]:
        """The observations of the sweep by request id. A prober that cannot tell makes them UNKNOWN."""
        if self._pending is None:
            return {}
        number, requests = self._pending
        self._pending = None
        longest = max((request.timeout for request in requests), default=0.0)
        if not self.broken:
            try:
                answer = json.loads(self._stream.receive(time.monotonic() + longest + ROUND_TRIP))
                if answer["id"] == number:
                    return {result["id"]: _observation(result) for result in answer["results"]}
                self.broken = f"the prober in {self.who} answered request {answer['id']}, not {number}"
            except ProbeError as error:
                self.broken = error.message
            except (ValueError, KeyError, TypeError) as error:
                self.broken = f"the prober in {self.who} wrote what it never writes: {error}"
        unknown = Observation(kind=Kind.UNKNOWN, why=self.broken)
        return {request.id: unknown for request in requests}

    def close(self) -> None:
        self._stream.close()


def _spec(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "host": request.host,
        "port": request.port,
        "line": request.line,
        "answer": request.answer,
        "timeout": request.timeout,
    }


def _sighting(result: dict[str, Any]) -> Sighting:
    own = {name: result.pop(name) for name in ("count", "at_ms", "last_ms")}
    return Sighting(id=result["id"], seen=_observation(result), **own)


def _observation(result: dict[str, Any]) -> Observation:
    fields = {key: value for key, value in result.items() if key not in ("id", "kind")}
    return Observation(kind=Kind(result["kind"]), **fields)
