"""An API server for tests: its own thread and loop, on loopback, plain or with TLS; no kubelet behind it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver.admission import Admission
from conformance.cluster.embedded.apiserver.api import create_app
from conformance.cluster.embedded.apiserver.auth import Authenticator, User
from conformance.cluster.embedded.apiserver.bootstrap import bootstrap
from conformance.cluster.embedded.apiserver.pki import Authority, kubeconfig, server_context
from conformance.cluster.embedded.apiserver.storage import Storage
from conformance.cluster.embedded.apiserver.streams import ExecSession, StreamError

ADMIN_TOKEN = "admin-token"
READER_TOKEN = "reader-token"


class Streams:
    """A kubelet that has logs and nothing to exec into."""

    async def open_exec(
        self, *, namespace: str, pod: str, container: str, command: Sequence[str], stdin: bool, tty: bool
    ) -> ExecSession:
        raise StreamError(400, "BadRequest", f"container {container} of {namespace}/{pod} is not running")

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
    ) -> AsyncIterator[bytes]:
        yield f"log of {pod}/{container}\n".encode()


class ApiServer:
    """`url` is its address; `storage` belongs to its loop: touch it with `run` only."""

    def __init__(self, *, history: int = 2048, context: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.storage = Storage(history=history)
        self.url = ""
        self._context = context
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def start(self) -> None:
        self._thread.start()
        self.run(self._start())

    def stop(self) -> None:
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=60)
        self.loop.close()

    async def _start(self) -> None:
        bootstrap(self.storage, address="169.254.1.1", port=6443)
        users = {
            ADMIN_TOKEN: User(name="admin", groups=("system:masters", "system:authenticated")),
            READER_TOKEN: User(name="reader", groups=("system:authenticated",)),
        }
        self._admission = Admission(list_objects=self.storage.all, find=self.storage.get)
        app = create_app(
            storage=self.storage,
            authenticator=Authenticator(
                static_tokens=users,
                find=self.storage.get,
                issuer="https://kubernetes.default.svc.cluster.local",
            ),
            admission=self._admission,
            streams=Streams(),
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"{'https' if self._context else 'http'}://{host}:{port}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._admission.close()


@contextmanager
def api_server(directory: Path, *, history: int = 2048) -> Iterator[ApiServer]:
    """With TLS; `<directory>/kubeconfig` is the administrator's. (kubectl sends no token over plain HTTP.)"""
    authority = Authority.create()
    server = ApiServer(history=history, context=server_context(authority.issue_server(), directory))
    server.start()
    write_kubeconfig(directory / "kubeconfig", server, authority, ADMIN_TOKEN)
    try:
        yield server
    finally:
        server.stop()


def write_kubeconfig(path: Path, server: ApiServer, authority: Authority, token: str) -> None:
    path.write_text(kubeconfig(server=server.url, ca=authority.certificate, token=token))
