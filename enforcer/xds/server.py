"""The configuration service (ADS over gRPC): one stream per sidecar, woken when the world changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from enforcer.errors import EnforcerError
from enforcer.xds.session import Session
from enforcer.xds.snapshot import Snapshot

log = logging.getLogger("enforcer.xds")

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "StreamAggregatedResources"
STOP_SECONDS = 0.1

OPTIONS = (
    # Envoy's keepalive finds a dead control plane; gRPC would take its pings for an attack.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


class IdentityError(EnforcerError):
    """A stream does not prove which sidecar it comes from."""


def identify(node: Node, metadata: Mapping[str, str]) -> str:
    """The sidecar at the other end, as `<namespace>/<pod>`. Raises IdentityError.

    The node's own word is taken: a configuration holds no secret. What does hold one must look at the
    `metadata` of the call (its token) instead; this function is where.
    """
    del metadata
    namespace, slash, pod = node.id.partition("/")
    if not (slash and namespace and pod) or "/" in pod:
        raise IdentityError(f"node id {node.id!r} is not <namespace>/<pod>")
    return f"{namespace}/{pod}"


class Ads:
    """Serves snapshots.

    `resolve(session)` gives a sidecar's snapshot, None while its pod is unknown: then it waits, accepting
    nothing. `changed()` is called when a sidecar came, went, or answered.
    """

    def __init__(self, *, resolve: Callable[[Session], Snapshot | None], changed: Callable[[], None]) -> None:
        self._resolve = resolve
        self._changed = changed
        self._wakes: dict[Session, asyncio.Event] = {}
        self._server: Any = None
        self.sessions: dict[str, Session] = {}
        """The newest stream of each sidecar, ended ones too: Envoy keeps what it acknowledged."""
        self.nacks = 0

    async def start(self, address: str) -> int:
        """Listens; returns the port. Raises RuntimeError where the address is taken."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=DiscoveryRequest.FromString,
            response_serializer=DiscoveryResponse.SerializeToString,
        )
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        port = int(server.add_insecure_port(address))
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)

    def refresh(self) -> None:
        """The world changed: every stream looks whether that concerns it."""
        for wake in self._wakes.values():
            wake.set()

    def forget(self, node: str) -> None:
        """A pod is gone: an ended stream of it means nothing any more."""
        session = self.sessions.get(node)
        if session is not None and session not in self._wakes:
            del self.sessions[node]

    def connected(self, node: str) -> bool:
        return self.sessions.get(node) in self._wakes

    async def _stream(self, requests: AsyncIterator[DiscoveryRequest], context: Any) -> None:
        first = await anext(aiter(requests), None)
        if first is None:
            return
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        try:
            node = identify(first.node, metadata)
        except IdentityError as error:
            log.warning("refused a stream: %s", error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            return
        session = Session(node=node, ipv6=bool(first.node.metadata.fields["ipv6"].bool_value))
        session.receive(first)
        wake = asyncio.Event()
        wake.set()
        self._wakes[session] = wake
        self.sessions[node] = session
        reader = asyncio.create_task(self._read(requests, session, wake), name=f"xds-{node}")
        reader.add_done_callback(lambda _: wake.set())
        log.info("%s connected", node)
        self._changed()
        try:
            await self._write(context, session, wake, reader)
        finally:
            reader.cancel()
            del self._wakes[session]
            log.info("%s disconnected", node)
            self._changed()

    async def _read(
        self, requests: AsyncIterator[DiscoveryRequest], session: Session, wake: asyncio.Event
    ) -> None:
        async for request in requests:
            refusal = session.receive(request)
            if refusal is not None:
                self.nacks += 1
                log.error("%s refused a configuration: %s", session.node, refusal)
            wake.set()
            self._changed()

    async def _write(
        self, context: Any, session: Session, wake: asyncio.Event, reader: asyncio.Task[None]
    ) -> None:
        while not reader.done():
            await wake.wait()
            wake.clear()
            snapshot = self._resolve(session)
            if snapshot is None:
                continue
            for response in session.due(snapshot):
                await context.write(response)
