"""A kubelet between a small API and a runtime without containers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.cluster.embedded.controllers.shared import SharedInformers
from conformance.cluster.embedded.kubelet.container_surroundings import BackOff
from conformance.cluster.embedded.kubelet.kubelet import Kubelet
from tests.cluster.embedded.fakes import FakeApi, FakeRuntime, Object

PODS = "/api/v1/namespaces/foo/pods"
PATH = f"{PODS}/x"
BACK_OFF = BackOff(first=0.02, last=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    api: FakeApi
    runtime: FakeRuntime
    kubelet: Kubelet
    state: Path

    @property
    def status(self) -> Object:
        status: Object = self.api.objects.get(PATH, {}).get("status") or {}
        return status

    def container_status(self, name: str = "app") -> Object:
        every = [*self.status.get("initContainerStatuses", ()), *self.status.get("containerStatuses", ())]
        found: Object = next((status for status in every if status["name"] == name), {})
        return found

    def condition(self, kind: str) -> str | None:
        found = [c["status"] for c in self.status.get("conditions", ()) if c["type"] == kind]
        return found[0] if found else None

    async def until_ready(self) -> None:
        await self.api.until(lambda: self.condition("Ready") == "True")

    async def until_phase(self, phase: str) -> None:
        await self.api.until(lambda: self.status.get("phase") == phase)

    async def until_state(self, kind: str, reason: str, name: str = "app") -> Object:
        def reached() -> Object | None:
            state = self.container_status(name).get("state", {}).get(kind)
            return state if state and state["reason"] == reason else None

        found: Object = await self.api.until(reached)
        return found

    async def until_event(self, reason: str) -> Object:
        def written() -> Object | None:
            events = [item for path, item in self.api.objects.items() if "/events/" in path]
            return next((event for event in events if event["reason"] == reason), None)

        found: Object = await self.api.until(written)
        return found

    def delete(self, *, grace: int = 1) -> None:
        fields = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        self.api.change(PATH, {"metadata": fields})

    async def until_gone(self) -> None:
        await self.api.until(lambda: PATH not in self.api.objects)

    async def logs(self, name: str = "app", **options: Any) -> bytes:
        every = {
            "follow": False,
            "previous": False,
            "timestamps": False,
            "tail_lines": None,
            "since_seconds": None,
            "limit_bytes": None,
        }
        chunks = self.kubelet.read_logs(namespace="foo", pod="x", container=name, **{**every, **options})
        return b"".join([chunk async for chunk in chunks])


@asynccontextmanager
async def a_node(directory: Path, *, ipv6: bool = False) -> AsyncIterator[Node]:
    api, runtime = FakeApi(), FakeRuntime()
    state = directory / "state"
    async with api.serving(directory) as client:
        informers = SharedInformers(client)
        kubelet = Kubelet(
            client=client,
            informers=informers,
            runtime=runtime.as_runtime(),
            state=state,
            back_off=BACK_OFF,
            ipv6=ipv6,
        )
        tasks = [asyncio.create_task(part) for part in (kubelet.run(), informers.run())]
        try:
            yield Node(api=api, runtime=runtime, kubelet=kubelet, state=state)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def on_a_node(directory: Path, scenario: Callable[[Node], Awaitable[None]], *, ipv6: bool = False) -> None:
    async def run() -> None:
        async with a_node(directory, ipv6=ipv6) as node:
            await scenario(node)

    asyncio.run(run())
