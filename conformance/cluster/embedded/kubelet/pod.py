"""One pod on the node: volumes and sandbox, init containers in order, containers, status, the end."""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.cluster.embedded.client import ApiClient
from conformance.cluster.embedded.kubelet.container_surroundings import BackOff, Surroundings, grace_of
from conformance.cluster.embedded.kubelet.environment import PodFacts
from conformance.cluster.embedded.kubelet.events import EventRecorder
from conformance.cluster.embedded.kubelet.hosts import HostsFiles
from conformance.cluster.embedded.kubelet.pod_container import Container
from conformance.cluster.embedded.kubelet.pod_object import PodObject
from conformance.cluster.embedded.kubelet.pod_status import PodMoment, timestamp
from conformance.cluster.embedded.kubelet.volumes import (
    PodVolumes,
    UnsupportedVolumeError,
    VolumeError,
    config_data,
)
from conformance.cluster.embedded.node.network import second_address
from conformance.cluster.embedded.node.runtime import Mount, Runtime, RuntimeFailure, SandboxSpec

Object = dict[str, Any]

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0
ENDED_SECONDS = 5.0  # for what remains once every process has ended; the sandbox then goes in any case

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What every pod of the node shares."""

    client: ApiClient
    runtime: Runtime
    events: EventRecorder
    hosts: HostsFiles
    pods_directory: Path
    shared_mounts: tuple[Mount, ...]
    back_off: BackOff
    ipv6: bool = False


class PodWorker:
    """Runs one pod from its creation to its deletion. Told of changes by `update` and `vanish`."""

    def __init__(self, node: NodeParts, pod: Object, ip: str) -> None:
        self.pod = pod
        self.ip = ip
        self.ip6 = second_address(ip) if node.ipv6 else ""
        self.uid: str = pod["metadata"]["uid"]
        metadata = pod["metadata"]
        self.path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._object = PodObject(
            node.client, self.path, uid=self.uid, status=pod.get("status") or {}, moment=self._moment
        )
        self._node = node
        self._directory = node.pods_directory / self.uid
        facts = PodFacts(pod=pod, ip=ip, ip6=self.ip6)
        self.volumes = PodVolumes(client=node.client, root=self._directory / "volumes", facts=facts)
        self.containers: dict[str, Container] = {}
        self._init: list[Container] = []
        self._main: list[Container] = []
        self._make_containers(facts)
        self._start_time = timestamp()
        self._failure: tuple[str, str] | None = None
        self._has_sandbox = False
        self._killing: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._refresh = asyncio.Event()  # something that the pod's set-up waits for may have changed

    def update(self, pod: Object) -> None:
        """Take the pod's new state."""
        self.pod = pod
        self.volumes.pod_changed(pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()
        if pod["spec"].get("readinessGates"):
            self._object.mark(urgent=True)

    def vanish(self) -> None:
        """The object is gone (a forced deletion): end at once, there is nobody to tell."""
        self._object.vanished = True
        if self._ending.is_set() and self._has_sandbox:  # its grace period has been cut short
            self._killing = asyncio.create_task(self._kill(), name=f"kill of {self.path}")
        self._ending.set()

    def objects_changed(self) -> None:
        """A ConfigMap or Secret that the pod shows has changed."""
        self.volumes.objects_changed()
        self._refresh.set()

    async def run(self) -> None:
        """Until the pod has ended and its object is gone."""
        if self.pod["metadata"].get("deletionTimestamp"):
            self._ending.set()
        writer = asyncio.create_task(self._object.write_statuses(), name=f"status of {self.path}")
        life = asyncio.create_task(self._live(), name=f"life of {self.path}")
        try:
            await self._ending.wait()
            await self._end(life)
        finally:
            for task in (life, writer):
                task.cancel()
            await asyncio.gather(life, writer, return_exceptions=True)
        await self._remove()

    def _make_containers(self, facts: PodFacts) -> None:
        def around(_container: Object) -> tuple[Mount, ...]:
            hosts = Mount(source=str(self._directory / "hosts"), target="/etc/hosts")
            return (hosts, *self._node.shared_mounts, *self.volumes.mounts_of(_container))

        async def lookup(kind: str, name: str) -> Mapping[str, bytes] | None:
            return await config_data(self._node.client, kind, facts.pod["metadata"]["namespace"], name)

        surroundings = Surroundings(
            runtime=self._node.runtime,
            facts=facts,
            mounts=around,
            lookup=lookup,
            event=self._event,
            changed=lambda urgent: self._object.mark(urgent=urgent),
            back_off=self._node.back_off,
        )
        spec = facts.pod["spec"]
        policy = spec.get("restartPolicy") or "Always"
        for container in spec.get("initContainers") or ():
            sidecar = container.get("restartPolicy") == "Always"
            own_policy = "Always" if sidecar else ("Never" if policy == "Never" else "OnFailure")
            self._init.append(
                Container(
                    container,
                    surroundings,
                    policy=own_policy,
                    first_reason="PodInitializing",
                    sidecar=sidecar,
                )
            )
        first_reason = "PodInitializing" if self._init else "ContainerCreating"
        self._main = [
            Container(container, surroundings, policy=policy, first_reason=first_reason)
            for container in spec["containers"]
        ]
        self.containers = {container.name: container for container in (*self._init, *self._main)}

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                if not self.pod["spec"].get("nodeName"):
                    group.create_task(self._object.bind())
                if await self._set_up():
                    keeper = group.create_task(self.volumes.keep_true())
                    await self._run_containers()
                    keeper.cancel()
                    # Every container has ended for good: what holds the pod's network is not needed any more.
                    await self._node.runtime.remove_sandbox(self.uid)
        except* Exception as errors:
            # One pod's failure is told in its status; the node and the other pods live on.
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            log.exception("pod %s", self.path, exc_info=error)
            self._failure = ("KubeletError", f"{type(error).__name__}: {error}")
            self._object.mark(urgent=True)
            with suppress(RuntimeFailure):
                await self._node.runtime.remove_sandbox(self.uid)

    async def _set_up(self) -> bool:
        """Volumes, hosts file, sandbox; whether the pod can run here at all."""
        self._object.mark(urgent=False)
        refusal = unsupported(self.pod["spec"])
        delay = FIRST_RETRY_SECONDS
        while refusal is None:
            self._refresh.clear()
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                await self.volumes.set_up()
                self._node.hosts.add(
                    self.pod, [ip for ip in (self.ip, self.ip6) if ip], self._directory / "hosts"
                )
                hostname = self.pod["spec"].get("hostname") or self.pod["metadata"]["name"]
                await self._node.runtime.create_sandbox(
                    SandboxSpec(uid=self.uid, hostname=hostname[:63], ip=self.ip, ip6=self.ip6)
                )
            except UnsupportedVolumeError as error:
                refusal = str(error)
            except VolumeError as error:
                self._event("", "FailedMount", str(error))
            except (RuntimeFailure, OSError) as error:
                self._event("", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                with suppress(RuntimeFailure):  # what is there of it is in the way of the next try
                    await self._node.runtime.remove_sandbox(self.uid)
            else:
                self._has_sandbox = True
                self._object.mark(urgent=False)
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._refresh.wait()
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        self._event("", "Failed", f"Error: {refusal}")
        for container in self.containers.values():
            container.refuse("CreateContainerConfigError", refusal)
        return False

    async def _run_containers(self) -> None:
        """Init containers in their order, then all others; sidecars end when those have."""
        async with asyncio.TaskGroup() as group:
            for container in self._init:
                run = group.create_task(container.run(), name=f"container {container.name} of {self.path}")
                if not container.state.sidecar:
                    if await run:
                        continue
                    break
                started = group.create_task(container.started.wait())
                await asyncio.wait([run, started], return_when=asyncio.FIRST_COMPLETED)
                started.cancel()
                if run.done():  # a sidecar ends only when it is stopped
                    break
            else:
                await asyncio.gather(*(container.run() for container in self._main))
            await self._stop_sidecars(grace_of(self.pod))

    async def _stop_sidecars(self, grace: float) -> None:
        ends = time.monotonic() + grace
        for container in reversed(self._init):
            if container.state.sidecar:
                await container.stop(grace=max(0.0, ends - time.monotonic()))

    async def _end(self, life: asyncio.Task[None]) -> None:
        """Stop every container within the grace period; sidecars after the others, in reverse order."""
        grace = 0.0 if self._object.vanished else grace_of(self.pod)
        ends = time.monotonic() + grace
        others = [container for container in self.containers.values() if not container.state.sidecar]
        await asyncio.gather(*(container.stop(grace=grace) for container in others))
        await self._stop_sidecars(max(0.0, ends - time.monotonic()))
        if self._has_sandbox:
            await asyncio.wait([life], timeout=ENDED_SECONDS)
        if not self._object.vanished and grace > 0:
            await self._object.write_status()  # the last states, as a watch of the pod may want to see them

    async def _kill(self) -> None:
        await asyncio.gather(*(container.stop(grace=0) for container in self.containers.values()))

    async def _remove(self) -> None:
        """Free everything, then let the object go."""
        try:
            await self._node.runtime.remove_sandbox(self.uid)
        except RuntimeFailure as error:
            log.warning("sandbox of %s: %s", self.path, error)
        self._node.hosts.remove(self.uid)
        self.volumes.tear_down()
        shutil.rmtree(self._directory, ignore_errors=True)
        await self._object.delete()

    def _event(self, container: str, reason: str, message: str) -> None:
        self._node.events.record(self.pod, reason=reason, message=message, container=container)

    def _moment(self) -> PodMoment:
        return PodMoment(
            pod=self.pod,
            ip=self.ip if self._has_sandbox else "",
            ip6=self.ip6 if self._has_sandbox else "",
            start_time=self._start_time,
            init=[container.state for container in self._init],
            main=[container.state for container in self._main],
            failure=self._failure,
        )


def unsupported(spec: Object) -> str | None:
    """Why a pod cannot run on the embedded cluster; None where it can. What would be ignored is refused."""
    for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "activeDeadlineSeconds"):
        if spec.get(field):
            return f"{field} is not offered by the embedded cluster"
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        if (container.get("lifecycle") or {}).get("postStart"):
            return f'container "{container["name"]}": postStart is not offered by the embedded cluster'
    return None
