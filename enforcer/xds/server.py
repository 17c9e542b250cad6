"""The configuration service (ADS over gRPC): one stream per sidecar, woken when the world changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from enforcer.certificate import Certificate
from enforcer.kube import KubeError
from enforcer.tokens import Caller, TokenError
from enforcer.xds.secrets import Secrets
from enforcer.xds.session import ForeignSecretError, Session
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


TOKEN_HEADER = "authorization"  # noqa: S105 - a header's name


class Ads:
    """Serves snapshots and secrets to whoever proves to be a pod.

    `authenticate(token)` tells the pod (raises TokenError, KubeError). `resolve(session)` gives a sidecar's
    snapshot, None while its pod is unknown: then it waits, accepting nothing. `issue(session)` makes its
    secrets. `changed()` is called when a sidecar came, went, or answered.
    """

    def __init__(
        self,
        *,
        authenticate: Callable[[str], Awaitable[Caller]],
        resolve: Callable[[Session], Snapshot | None],
        issue: Callable[[Session], Secrets],
        changed: Callable[[], None],
    ) -> None:
        self._authenticate = authenticate
        self._resolve = resolve
        self._issue = issue
        self._changed = changed
        self._wakes: dict[Session, asyncio.Event] = {}
        self._server: Any = None
        self.sessions: dict[str, Session] = {}
        """The newest stream of each sidecar, ended ones too: Envoy keeps what it acknowledged."""
        self.nacks = 0

    async def start(self, address: str, certificate: Certificate) -> int:
        """Listens, by TLS only; returns the port. Raises RuntimeError where the address is taken."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=DiscoveryRequest.FromString,
            response_serializer=DiscoveryResponse.SerializeToString,
        )
        credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        port = int(server.add_secure_port(address, credentials))
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
        caller = await self._caller(context)
        first = await anext(aiter(requests), None)
        if first is None:
            return
        if first.node.id != caller.node:
            await _refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"node {first.node.id!r} is not {caller.node}, whose token this is",
            )
        ipv6 = bool(first.node.metadata.fields["ipv6"].bool_value)
        session = Session(node=caller.node, uid=caller.uid, identity=caller.identity, ipv6=ipv6)
        try:
            session.receive(first)
        except ForeignSecretError as error:
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
        await self._converse(requests, context, session)

    async def _caller(self, context: Any) -> Caller:
        """Who is at the other end. Ends the call of whoever does not prove it."""
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        token = metadata.get(TOKEN_HEADER, "").removeprefix("Bearer ").strip()
        if not token:
            await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "a pod's token is needed")
        try:
            return await self._authenticate(token)
        except TokenError as error:
            await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        except KubeError as error:
            # Not the caller's fault: it comes back.
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, f"the token cannot be reviewed: {error}")

    async def _converse(
        self, requests: AsyncIterator[DiscoveryRequest], context: Any, session: Session
    ) -> None:
        node = session.node
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
            if not reader.cancelled() and isinstance(error := reader.exception(), ForeignSecretError):
                await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
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
        snapshot: Snapshot | None = None
        while not reader.done():
            # The timeout: a certificate is due for the next one. A pod that is not known gets none.
            left = session.secrets.due_in(datetime.now(UTC)) if snapshot and session.secrets else None
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), left)
            wake.clear()
            snapshot = self._resolve(session)
            if snapshot is None or reader.done():
                continue
            if session.secrets is None or not session.secrets.due_in(datetime.now(UTC)):
                session.secrets = self._issue(session)
            for response in session.due(snapshot):
                await context.write(response)


async def _refuse(context: Any, code: grpc.StatusCode, reason: str) -> NoReturn:
    log.warning("refused a stream from %s: %s", context.peer(), reason)
    await context.abort(code, reason)
    raise AssertionError("abort raises")
