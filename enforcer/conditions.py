"""The condition `Enforced` in each policy's status: what it says (pure) and the writing of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from enforcer.kube import KubeError
from enforcer.watch import Key, backoff

log = logging.getLogger("enforcer.conditions")

Json = dict[str, Any]

TYPE = "Enforced"
SETTLE_SECONDS = 0.5
"""A wait for sidecars shorter than this is not worth a write: the answer replaces it."""
WRITES_AT_ONCE, WRITES_A_SECOND = 20, 5
"""While many policies come and go, most are gone before their condition would be read."""
GONE_ALREADY = frozenset({404, 409})
PLURALS = {"AuthorizationPolicy": "authorizationpolicies", "PeerAuthentication": "peerauthentications"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the status says of one generation of a policy. `settled` False: about to change by itself."""

    enforced: bool
    reason: str
    message: str
    generation: int
    settled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a policy came at one selected sidecar."""

    node: str
    in_sync: bool
    nack: str | None


def judge(
    *,
    generation: int,
    problem: str | None,
    malformed: bool,
    dry_run: bool,
    reaches: Sequence[Reach],
) -> Condition:
    """The condition of a policy, from what is wrong with it and where it has arrived."""

    def condition(enforced: bool, reason: str, message: str, *, settled: bool = True) -> Condition:
        return Condition(
            enforced=enforced, reason=reason, message=message, generation=generation, settled=settled
        )

    if problem is not None:
        return condition(False, "Rejected" if malformed else "Unsupported", problem)
    refused = sorted((reach.node, reach.nack) for reach in reaches if reach.nack is not None)
    if refused:
        node, error = refused[0]
        return condition(False, "Nacked", f"sidecar {node} refused the configuration: {error}")
    if not all(reach.in_sync for reach in reaches):
        return condition(False, "Pending", "not every selected sidecar has acknowledged it", settled=False)
    if not reaches:
        return condition(True, "NoWorkloads", "no sidecar that has a configuration is selected")
    if dry_run:
        return condition(True, "DryRun", "every selected sidecar evaluates it, and enforces nothing of it")
    return condition(True, "Acknowledged", "every selected sidecar has acknowledged it")


def current(document: Mapping[str, Any]) -> Json | None:
    """The condition that a policy's status holds."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry.get("type") == TYPE), None)


def says(document: Mapping[str, Any], condition: Condition) -> bool:
    """Whether the status holds exactly this already."""
    held = current(document)
    return held is not None and (
        held.get("status"),
        held.get("reason"),
        held.get("message"),
        held.get("observedGeneration"),
    ) == (str(condition.enforced), condition.reason, condition.message, condition.generation)


def status_patch(document: Mapping[str, Any], condition: Condition, *, now: datetime | None = None) -> Json:
    """The merge patch that puts the condition into the status and leaves others' conditions alone."""
    held = current(document)
    status = str(condition.enforced)
    moment = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if held is not None and held.get("status") == status and held.get("lastTransitionTime"):
        moment = held["lastTransitionTime"]
    others = [
        entry for entry in (document.get("status") or {}).get("conditions") or () if entry.get("type") != TYPE
    ]
    ours = {
        "type": TYPE,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.generation,
        "lastTransitionTime": moment,
    }
    return {"status": {"conditions": [*others, ours]}}


class Writable(Protocol):
    def patch(self, path: str, body: object, *, content_type: str = ...) -> Json: ...


class Writer:
    """Writes what differs, one at a time, never twice the same, and not more than the API server should be
    asked for. Runs until cancelled.

    `wanted()` gives every policy's document and condition; `notify` is called whenever that may have changed.
    """

    def __init__(self, api: Writable, wanted: Callable[[], Mapping[Key, tuple[Json, Condition]]]) -> None:
        self._api = api
        self._wanted = wanted
        self._wake = asyncio.Event()
        self._written: dict[Key, tuple[Condition, str]] = {}
        self._unsettled: dict[Key, float] = {}
        self._allowed = float(WRITES_AT_ONCE)
        self._allowed_at = 0.0

    def notify(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        delays = backoff()
        timeout: float | None = None
        while True:
            # The timeout: an unsettled condition has waited long enough, or a failed write is due again.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout)
            await asyncio.sleep(self._until_allowed())
            self._wake.clear()
            failed, waiting = await self._write_due()
            if failed:
                timeout = next(delays)
            else:
                delays = backoff()
                timeout = waiting

    async def _write_due(self) -> tuple[bool, float | None]:
        """Writes what is due; whether a write failed, and seconds until the next one is due."""
        wanted = self._wanted()
        self._written = {key: value for key, value in self._written.items() if key in wanted}
        now = asyncio.get_running_loop().time()
        failed, due_in = False, []
        pending: dict[Key, float] = {}
        for key, (document, condition) in wanted.items():
            if says(document, condition):
                self._written.pop(key, None)
                continue
            if self._on_its_way(key, document, condition):
                continue
            if not condition.settled:
                since = pending[key] = self._unsettled.get(key, now)
                if now - since < SETTLE_SECONDS:
                    due_in.append(SETTLE_SECONDS - (now - since))
                    continue
            if wait := self._until_allowed():
                due_in.append(wait)
                continue
            self._allowed -= 1
            failed |= not await self._write(key, document, condition)
        self._unsettled = pending
        return failed, min(due_in, default=None)

    def _until_allowed(self) -> float:
        """Seconds until another write is allowed; 0: it is now."""
        now = asyncio.get_running_loop().time()
        self._allowed = min(self._allowed + (now - self._allowed_at) * WRITES_A_SECOND, WRITES_AT_ONCE)
        self._allowed_at = now
        return max((1 - self._allowed) / WRITES_A_SECOND, 0.0)

    async def _write(self, key: Key, document: Json, condition: Condition) -> bool:
        plural = PLURALS[key.kind]
        path = f"/apis/security.istio.io/v1/namespaces/{key.namespace}/{plural}/{key.name}/status"
        try:
            answer = await asyncio.to_thread(self._api.patch, path, status_patch(document, condition))
        except KubeError as error:
            if error.status in GONE_ALREADY:
                # Deleted or changed meanwhile: the watch brings what to do next.
                return True
            log.warning("status of %s: %s", key, error)
            return False
        self._written[key] = (condition, str(answer["metadata"]["resourceVersion"]))
        return True

    def _on_its_way(self, key: Key, document: Json, condition: Condition) -> bool:
        """Whether this was written, and the watch has not brought the result (or what replaced it) yet."""
        written, version = self._written.get(key, (None, "0"))
        return written == condition and int(document["metadata"]["resourceVersion"]) < int(version)
