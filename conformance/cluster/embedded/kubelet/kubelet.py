"""The kubelet of the one node: runs every pod of the API on the container runtime, and serves exec and logs.

It is a client of the API like any other, and the API server's source of pod streams (`PodStreams`).
"""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from conformance.cluster.embedded.apiserver.streams import StreamError
from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.shared import (
    CONFIG_MAPS,
    PODS,
    SECRETS,
    SERVICES,
    SharedInformers,
)
from conformance.cluster.embedded.kubelet.container_surroundings import BackOff
from conformance.cluster.embedded.kubelet.environment import NODE_IP, NODE_NAME
from conformance.cluster.embedded.kubelet.events import EventRecorder
from conformance.cluster.embedded.kubelet.exec_sessions import RuntimeExecSession
from conformance.cluster.embedded.kubelet.hosts import HostsFiles
from conformance.cluster.embedded.kubelet.node_report import node_object, node_status
from conformance.cluster.embedded.kubelet.pod import NodeParts, PodWorker
from conformance.cluster.embedded.kubelet.pod_container import Container
from conformance.cluster.embedded.kubelet.pod_status import timestamp
from conformance.cluster.embedded.node.runtime import STATE, Mount, Runtime, RuntimeFailure, StartError

Object = dict[str, Any]

FIRST_POD_IP = ipaddress.IPv4Address("10.244.0.10")
LAST_POD_IP = ipaddress.IPv4Address("10.244.255.254")
HEARTBEAT_SECONDS = 60.0
HEARTBEAT_RETRY_SECONDS = 1.0
# Names that no hosts file has fail at once: nothing listens for DNS at the node, and it says so.
RESOLVER_FILE = "resolv.conf"
RESOLVER = f"nameserver {NODE_IP}\noptions timeout:1 attempts:1\n"

log = logging.getLogger(__name__)


class AddressPool:
    """Pod addresses. Each is used again as late as possible: who knew a pod must not find another there."""

    def __init__(
        self, first: ipaddress.IPv4Address = FIRST_POD_IP, last: ipaddress.IPv4Address = LAST_POD_IP
    ) -> None:
        self._first, self._last = first, last
        self._next = first
        self._used: set[ipaddress.IPv4Address] = set()

    def take(self) -> str:
        """A free address. Raises LookupError when there is none."""
        for _ in range(int(self._last) - int(self._first) + 1):
            address = self._next
            self._next = self._first if address == self._last else address + 1
            if address not in self._used:
                self._used.add(address)
                return str(address)
        raise LookupError("every pod address is in use")

    def free(self, address: str) -> None:
        """Give an address back."""
        self._used.discard(ipaddress.IPv4Address(address))


class Kubelet:
    """The node `embedded`. Implements streams.PodStreams."""

    def __init__(
        self,
        *,
        client: ApiClient,
        informers: SharedInformers,
        runtime: Runtime,
        state: Path = Path(STATE),
        back_off: BackOff | None = None,
        ipv6: bool = False,
    ) -> None:
        self._client = client
        self._runtime = runtime
        self._addresses = AddressPool()
        self._workers: dict[str, PodWorker] = {}  # by pod uid, until the object is gone
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._state = state
        self._services = informers.watch(SERVICES, self._service_event)
        self._pods = informers.watch(PODS, self._pod_event)
        informers.watch(CONFIG_MAPS, lambda _, item: self._object_event("configMap", item))
        informers.watch(SECRETS, lambda _, item: self._object_event("secret", item))
        self._events = EventRecorder(client)
        self._hosts = HostsFiles(self._services.cache, self._pods.cache)
        self._node = NodeParts(
            client=client,
            runtime=runtime,
            events=self._events,
            hosts=self._hosts,
            pods_directory=state / "volumes",
            shared_mounts=resolver_mounts(state),
            back_off=back_off or BackOff(),
            ipv6=ipv6,
        )

    async def run(self) -> None:
        """Be the node until cancelled, beside the informers. Pods end with their runtime, not here."""
        self._node.pods_directory.mkdir(parents=True, exist_ok=True)
        (self._state / RESOLVER_FILE).write_text(RESOLVER)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._events.run())
                group.create_task(self._hosts.run())
                group.create_task(self._be_a_node())
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def open_exec(
        self,
        *,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        stdin: bool,
        tty: bool,
    ) -> RuntimeExecSession:
        """Start a command in a running container. Raises StreamError."""
        found = self._container(namespace, pod, container)
        if found is None or found.process is None:
            message = f'unable to upgrade connection: container not found ("{container}")'
            raise StreamError(500, "InternalError", message)
        try:
            process = await self._runtime.exec(
                found.id,
                command,
                env=found.environment,
                cwd=found.working_directory,
                stdin=stdin,
                tty=tty,
            )
        except StartError as error:
            raise StreamError(500, "InternalError", error.message) from error
        except RuntimeFailure as error:
            raise StreamError(
                500, "InternalError", f"error executing command in container: {error}"
            ) from error
        return RuntimeExecSession(process)

    async def read_logs(
        self,
        *,
        namespace: str,
        pod: str,
        container: str,
        follow: bool,
        previous: bool,
        timestamps: bool,
        tail_lines: int | None,
        since_seconds: float | None,
        limit_bytes: int | None,
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of a container's log. Raises StreamError before the first one."""
        found = self._container(namespace, pod, container)
        if previous and (found is None or found.previous_log is None):
            message = f'previous terminated container "{container}" in pod "{pod}" not found'
            raise StreamError(400, "BadRequest", message)
        source = None if found is None else (found.previous_log if previous else found.log)
        if source is None:
            reason = "ContainerCreating" if found is None else found.state.state["waiting"]["reason"]
            message = f'container "{container}" in pod "{pod}" is waiting to start: {reason}'
            raise StreamError(400, "BadRequest", message)
        chunks = source.read(
            follow=follow,
            timestamps=timestamps,
            tail_lines=tail_lines,
            since_seconds=since_seconds,
            limit_bytes=limit_bytes,
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _container(self, namespace: str, pod: str, container: str) -> Container | None:
        known = self._pods.cache.get((namespace, pod))
        worker = self._workers.get(known["metadata"]["uid"]) if known else None
        return worker.containers.get(container) if worker else None

    def _pod_event(self, event: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if event == "DELETED":
            if worker is not None:
                worker.vanish()
        elif worker is not None:
            worker.update(pod)
        elif (pod["spec"].get("nodeName") or NODE_NAME) == NODE_NAME:
            self._start(uid, pod)
        self._hosts.pods_changed()

    def _start(self, uid: str, pod: Object) -> None:
        worker = self._workers[uid] = PodWorker(self._node, pod, self._addresses.take())
        task = self._tasks[uid] = asyncio.create_task(self._work(worker), name=f"pod {worker.path}")
        task.add_done_callback(lambda ended: self._ended(uid, worker, ended))

    async def _work(self, worker: PodWorker) -> None:
        # A pod's first hosts file must know the Services that are there already.
        await self._services.synced.wait()
        await worker.run()

    def _ended(self, uid: str, worker: PodWorker, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod %s ended badly", worker.path, exc_info=error)
        self._addresses.free(worker.ip)
        del self._tasks[uid]
        self._workers.pop(uid, None)

    def _service_event(self, _event: str, _service: Object) -> None:
        self._hosts.services_changed()

    def _object_event(self, kind: str, item: Object) -> None:
        metadata = item["metadata"]
        for worker in self._workers.values():
            if worker.pod["metadata"]["namespace"] == metadata["namespace"] and worker.volumes.refers_to(
                kind, metadata["name"]
            ):
                worker.objects_changed()

    async def _be_a_node(self) -> None:
        """Register the node, then say from time to time that it is alive."""
        while True:
            try:
                await self._report_node()
            except ApiClientError as error:
                log.warning("node status: %s", error)
                await asyncio.sleep(HEARTBEAT_RETRY_SECONDS)
            else:
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _report_node(self) -> None:
        path = f"/api/v1/nodes/{NODE_NAME}"
        try:
            known = await self._client.get(path)
        except ApiClientError as error:
            if error.code != 404:
                raise
            known = await self._client.create("/api/v1/nodes", node_object(ipv6=self._node.ipv6))
        await self._client.patch_status(
            path, node_status(known.get("status") or {}, now=timestamp(), ipv6=self._node.ipv6)
        )


def resolver_mounts(state: Path) -> tuple[Mount, ...]:
    """The resolver's file for every container; where the host has a link, it leads nowhere in a container."""
    target = Path("/etc/resolv.conf")
    if target.is_symlink() or not target.is_file():
        return ()
    return (Mount(source=str(state / RESOLVER_FILE), target=str(target)),)
