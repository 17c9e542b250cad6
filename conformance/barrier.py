"""Proof that a step's changes have landed at the workloads that are about to be probed.

One strategy per kind of mesh; the profile names it. What it proves stands in the record.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from conformance.cluster.kube import ObjectKey
from conformance.errors import ProbeError, SetupError
from conformance.evidence import Waited

__all__ = ["Barrier", "Changes", "EnforcerStatus", "StatusStream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a step wrote: objects with the resourceVersion of the API's answer, and objects deleted."""

    written: Mapping[ObjectKey, str] = field(default_factory=dict)
    deleted: tuple[ObjectKey, ...] = ()


class Barrier(Protocol):
    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        """Waits until the changes hold at `pods` (namespace/name, those with a data plane of their own)."""
        ...

    def close(self) -> None: ...


class StatusStream(Protocol):
    """Lines of `python3 -m enforcer status --follow`; `cluster.exec.ExecStream` is one."""

    def poll(self, deadline: float) -> str | None: ...
    def close(self) -> None: ...


class EnforcerStatus:
    """The bundled enforcer: every object processed, every sidecar's ACK, from one open exec stream."""

    strategy = "enforcer-status"

    def __init__(self, stream: StatusStream, *, awaited_kinds: Iterable[str]) -> None:
        self._stream = stream
        self._kinds = frozenset(awaited_kinds)
        self._changed = threading.Condition()
        self._state: Mapping[str, Any] | None = None
        self._broken = ""
        self._closing = False
        self._thread = threading.Thread(target=self._follow, name="enforcer status", daemon=True)
        self._thread.start()

    def await_first(self, timeout: float) -> None:
        """Raises SetupError where the enforcer says nothing in time."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._state is None and not self._broken and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
            if self._state is None:
                raise SetupError(f"the enforcer's status cannot be read: {self._broken or 'no line in time'}")

    def _follow(self) -> None:
        while not self._closing:
            try:
                # In slices, because a stream is closed by the thread that reads it.
                line = self._stream.poll(time.monotonic() + 0.1)
                if line is None:
                    continue
                state = json.loads(line)
                if not isinstance(state, dict) or not {"objects", "sidecars"} <= state.keys():
                    raise ValueError(f"this is no status: {line[:80]}")
            except (ProbeError, ValueError) as error:
                with self._changed:
                    self._broken = str(error) or "the stream ended"
                    self._changed.notify_all()
                break
            with self._changed:
                self._state = state
                self._changed.notify_all()
        with self._changed:
            self._broken = self._broken or "nobody listens to the control plane any more"
        self._stream.close()

    @property
    def broken(self) -> str:
        """Why nothing can be heard any more; empty = it can."""
        with self._changed:
            return self._broken

    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        begun = time.monotonic()
        deadline = begun + timeout
        with self._changed:
            while True:
                missing = self._missing(changes, pods)
                if self._broken:
                    # What was true when the stream ended says nothing of now.
                    missing = [self._broken, *missing]
                left = deadline - time.monotonic()
                if not missing or left <= 0 or self._broken:
                    break
                self._changed.wait(left)
            snapshot = (self._state or {}).get("snapshot")
        # Neither is cured by waiting: nothing tells of such kinds, and what is rejected is never enforced.
        missing += self._unawaited(changes) + self._rejected(changes)
        detail = f"snapshot {snapshot}, acknowledged by {', '.join(pods) or 'no sidecar (none is probed)'}"
        if missing:
            detail = "; ".join(missing)
        return Waited(
            strategy=self.strategy, landed=not missing, seconds=time.monotonic() - begun, detail=detail
        )

    def _missing(self, changes: Changes, pods: Sequence[str]) -> list[str]:
        """What is not proven yet, in words."""
        if self._state is None:
            return ["no status yet"]
        objects: Mapping[str, str] = self._state["objects"]
        written = set(map(str, changes.written))  # the same object, whichever API version it was written in
        missing = [
            f"{key} at {version} is not processed (at {objects.get(str(key), 'never')})"
            for key, version in changes.written.items()
            if key.kind in self._kinds and int(objects.get(str(key)) or 0) < int(version)
        ]
        missing += [
            f"{key} is still in force, as far as the control plane tells"
            for key in changes.deleted
            if key.kind in self._kinds and str(key) not in written and str(key) in objects
        ]
        for pod in pods:
            sidecar = self._state["sidecars"].get(pod)
            if sidecar is None or not sidecar.get("connected"):
                missing.append(f"the sidecar of {pod} is not connected")
            elif not sidecar["in_sync"]:
                nack = f": refused by Envoy: {sidecar['nack']}" if sidecar.get("nack") else ""
                missing.append(f"the sidecar of {pod} has not acknowledged{nack}")
        return missing

    def _unawaited(self, changes: Changes) -> list[str]:
        kinds = {key.kind for key in (*changes.written, *changes.deleted)} - self._kinds
        return [f"nothing tells of the landing of a {kind}" for kind in sorted(kinds)]

    def _rejected(self, changes: Changes) -> list[str]:
        reasons: Mapping[str, str] = (self._state or {}).get("rejected") or {}
        return [
            f"the enforcer rejects {key}: {reasons[str(key)]}"
            for key in changes.written
            if str(key) in reasons
        ]

    def close(self) -> None:
        self._closing = True
        self._thread.join(timeout=2.0)
