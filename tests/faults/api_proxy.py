"""A plain HTTP proxy in front of the API server: it answers in its place, is slow, or cuts what is open.

One request per connection, so that each one is seen: `Connection: close` is put into every request but an
upgrade's. Exec streams, followed logs and watches are bytes like all others.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

HEAD_LIMIT = 1 << 20
DEADLINE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the proxy does with a request: `code` 0 hands it on, after `delay` seconds; `silent` never
    answers; `mute` hands on until the API has accepted, and nothing after that."""

    code: int = 0
    reason: str = ""
    retry_after: int | None = None
    delay: float = 0.0
    silent: bool = False
    mute: bool = False


# (method, path with query) -> what is done; None = handed on
Rule = Callable[[str, str], Reply | None]


class ApiProxy:
    """`url` is its address on loopback; `rule` may be changed at any time."""

    def __init__(self, server: str, ca: bytes) -> None:
        self.rule: Rule = lambda method, path: None
        address = urlsplit(server)
        self._upstream = (str(address.hostname), int(address.port or 443))
        self._context = ssl.create_default_context(cadata=ca.decode())
        self._open: dict[asyncio.StreamWriter, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def cut(self, *parts: str) -> int:
        """Cuts the open connections whose path has one of the parts; how many."""

        async def now() -> int:
            found = [one for one, path in self._open.items() if any(part in path for part in parts)]
            for writer in found:
                writer.transport.abort()
            return len(found)

        return int(self._run(now()))

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cut, by us or by the other end
        finally:
            self._tasks.discard(task)
            self._open.pop(writer, None)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self._open[writer] = path
        reply = self.rule(method, path) or Reply()
        await asyncio.sleep(reply.delay)
        if reply.silent:
            await reader.read()  # until the client gives up
        elif reply.code:
            writer.write(_refusal(reply))
            await writer.drain()
        else:
            await self._hand_on(head, reader, writer, mute=reply.mute)

    async def _hand_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, mute: bool
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(
            *self._upstream, ssl=self._context, server_hostname=self._upstream[0]
        )
        if b"upgrade: websocket" not in head.lower():
            head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        far_writer.write(head)
        there = asyncio.create_task(_pipe(reader, far_writer))
        try:
            if mute:
                writer.write(await far_reader.readuntil(b"\r\n\r\n"))
                await there  # until the client gives up
            else:
                await _pipe(far_reader, writer)
        finally:
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)
            far_writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def _refusal(reply: Reply) -> bytes:
    message = f"a fault on purpose: {reply.reason}"
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": reply.code}
    body = json.dumps({**status, "reason": reply.reason, "message": message}).encode()
    after = "" if reply.retry_after is None else f"Retry-After: {reply.retry_after}\r\n"
    head = f"HTTP/1.1 {reply.code} {reply.reason}\r\nContent-Type: application/json\r\n{after}"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
