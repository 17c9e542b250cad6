"""The streaming subresources of pods: exec over WebSocket, and logs.

The WebSocket protocols are those of Kubernetes: a message starts with a channel byte, 0 stdin, 1 stdout,
2 stderr, 3 the final Status, 4 terminal sizes, and in v5 also 255 = "the channel of the next byte is closed".
What is wrong with a request is answered as a Status before the protocol is switched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

from aiohttp import WSMsgType, web

from conformance.cluster.embedded.apiserver.status import ApiError, bad_request, internal
from conformance.cluster.embedded.apiserver.stream_options import (
    container_name,
    flag,
    number_of,
    refused,
    since_seconds,
)

V5: Final = "v5.channel.k8s.io"
PROTOCOLS: Final = (V5, "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_LARGEST_MESSAGE: Final = 16 * 2**20
_FIRST_BYTES_SECONDS: Final = 0.1  # how long the head of a followed log waits for an early error
_GONE_POLL_SECONDS: Final = 1.0


class StreamError(Exception):
    """Why a stream cannot be had; becomes a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


class ExecSession(Protocol):
    """A process in a container. `kill` ends it and is harmless when it has ended."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1 stdout | 2 stderr, chunk); ends when both are closed."""

    async def write(self, data: bytes) -> None:
        """Returns once the process can take more. Input that nobody reads any more is dropped."""

    async def close_stdin(self) -> None: ...
    async def resize(self, *, columns: int, rows: int) -> None: ...
    async def wait(self) -> int: ...
    async def kill(self) -> None: ...


class PodStreams(Protocol):
    """What the kubelet offers. Both raise StreamError, `read_logs` at its first step."""

    async def open_exec(
        self,
        *,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        stdin: bool,
        tty: bool,
    ) -> ExecSession: ...

    def read_logs(
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
    ) -> AsyncIterator[bytes]: ...


async def handle_exec(
    request: web.Request, *, streams: PodStreams, namespace: str, pod: Mapping[str, Any]
) -> web.StreamResponse:
    """GET .../pods/x/exec?command=...&stdin=&stdout=&stderr=&tty=&container=. Raises ApiError."""
    command = request.query.getall("command", [])
    wanted = {name: flag(request, name) for name in ("stdin", "stdout", "stderr", "tty")}
    name = str(pod["metadata"]["name"])
    if not any(wanted[key] for key in ("stdin", "stdout", "stderr")):
        raise refused("PodExecOptions", name, "stdin", "at least one of stdin, stdout, stderr is required")
    if not command:
        raise refused("PodExecOptions", name, "command", "Required value", problem="FieldValueRequired")
    if wanted["tty"] and wanted["stderr"]:
        # A terminal has one output; clients that ask for both get it on stdout.
        wanted["stderr"] = False
    container = container_name(pod, request.query.get("container", ""))
    websocket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=_LARGEST_MESSAGE, compress=False)
    if not websocket.can_prepare(request):
        raise bad_request("Upgrade request required")
    offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if not any(protocol in PROTOCOLS for protocol in offered):
        raise bad_request(f"unable to negotiate protocol: client supports {offered}, server {PROTOCOLS}")
    try:
        session = await streams.open_exec(
            namespace=namespace,
            pod=name,
            container=container,
            command=command,
            stdin=wanted["stdin"],
            tty=wanted["tty"],
        )
    except StreamError as error:
        # The kubelet's errors travel in the stream, as they do on a real cluster: after a refused handshake
        # kubectl would try again over SPDY and report that instead.
        await websocket.prepare(request)
        await _send_status(websocket, _as_api_error(error).to_status())
        await websocket.close()
        return websocket
    try:
        await websocket.prepare(request)
        await _converse(request, websocket, session, wanted)
    finally:
        # Also when the client has gone, or the server is ending: no process outlives its stream.
        await session.kill()
    return websocket


async def _converse(
    request: web.Request,
    websocket: web.WebSocketResponse,
    session: ExecSession,
    wanted: Mapping[str, bool],
) -> None:
    listener = asyncio.create_task(_listen(websocket, session, stdin=wanted["stdin"]))
    speaker = asyncio.create_task(_speak(websocket, session, wanted))
    try:
        # A listener that waits for the process to take input misses the connection's end: look now and then.
        ended: set[asyncio.Task[None]] = set()
        while not ended and not _gone(request):
            ended, _ = await asyncio.wait(
                {listener, speaker}, timeout=_GONE_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        if speaker.done():
            await speaker
            # The Status is the last word. The closing handshake below needs the reader for itself.
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await websocket.close()
        elif listener.done():
            await listener
    finally:
        listener.cancel()
        speaker.cancel()
        await asyncio.gather(listener, speaker, return_exceptions=True)


async def _speak(websocket: web.WebSocketResponse, session: ExecSession, wanted: Mapping[str, bool]) -> None:
    shown = {STDOUT: wanted["stdout"], STDERR: wanted["stderr"]}
    # A client that has closed is the listener's to notice.
    with contextlib.suppress(ConnectionError):
        async for channel, chunk in session.output():
            if shown.get(channel) and chunk:
                await websocket.send_bytes(bytes((channel,)) + chunk)
        await _send_status(websocket, exit_status(await session.wait()))


async def _send_status(websocket: web.WebSocketResponse, status: Mapping[str, Any]) -> None:
    await websocket.send_bytes(bytes((STATUS,)) + json.dumps(status).encode())


async def _listen(websocket: web.WebSocketResponse, session: ExecSession, *, stdin: bool) -> None:
    """Until the client goes. Reading waits for the process to take its input: that is the backpressure."""
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            data = message.data.encode()
        elif message.type is WSMsgType.BINARY:
            data = message.data
        else:
            return
        if not data:
            continue
        channel, payload = data[0], data[1:]
        if channel == STDIN and stdin and payload:
            await session.write(payload)
        elif channel == RESIZE:
            await _resize(session, payload)
        elif channel == CLOSE and payload[:1] == bytes((STDIN,)) and stdin:
            await session.close_stdin()


async def _resize(session: ExecSession, payload: bytes) -> None:
    try:
        size = json.loads(payload)
        columns, rows = int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError):
        return  # a size that cannot be read changes nothing, as on a real server
    if columns > 0 and rows > 0:
        await session.resize(columns=columns, rows=rows)


def exit_status(code: int) -> dict[str, Any]:
    """The Status that ends an exec stream, by the process' exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def handle_log(
    request: web.Request, *, streams: PodStreams, namespace: str, pod: Mapping[str, Any]
) -> web.StreamResponse:
    """GET .../pods/x/log?follow=&previous=&timestamps=&tailLines=&sinceSeconds=&sinceTime=&limitBytes=."""
    name = str(pod["metadata"]["name"])
    follow = flag(request, "follow")
    chunks = streams.read_logs(
        namespace=namespace,
        pod=name,
        container=container_name(pod, request.query.get("container", "")),
        follow=follow,
        previous=flag(request, "previous"),
        timestamps=flag(request, "timestamps"),
        tail_lines=number_of(request, name, "tailLines", least=0),
        since_seconds=since_seconds(request, name),
        limit_bytes=number_of(request, name, "limitBytes", least=1),
    )
    upcoming = asyncio.ensure_future(anext(chunks, None))
    try:
        # An error at the first step is still a Status; a silent followed log must not hold the head back.
        await asyncio.wait({upcoming}, timeout=_FIRST_BYTES_SECONDS if follow else None)
        if upcoming.done() and (error := upcoming.exception()):
            raise _as_api_error(error) if isinstance(error, StreamError) else error
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            # Nothing tells a handler that its client has gone: while the log is silent, look now and then.
            while not (await asyncio.wait({upcoming}, timeout=_GONE_POLL_SECONDS))[0]:
                if _gone(request):
                    return response
            chunk = await upcoming
            if chunk is None:
                break
            with contextlib.suppress(ConnectionError):
                await response.write(chunk)
            if _gone(request):
                return response
            upcoming = asyncio.ensure_future(anext(chunks, None))
        await response.write_eof()
        return response
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _as_api_error(error: StreamError) -> ApiError:
    if error.reason == "InternalError":
        return internal(error.message)
    return ApiError(error.code, error.reason, error.message)
