"""A small Kubernetes API and a container runtime without containers: what the kubelet stands between."""

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from conformance.cluster.embedded.client import ApiClient
from conformance.cluster.embedded.node.runtime import ContainerSpec, Process, Runtime, SandboxSpec, StartError

Object = dict[str, Any]

TOKEN = "t0ken"
SUBRESOURCES = ("status", "token")


class FakeApi:
    """Objects by path, with resource versions, watches, merge patches and service-account tokens."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str]] = []
        self.version = 0
        self.history: list[tuple[int, str, str, Object]] = []
        self.grown = asyncio.Event()
        self.forget_before = 0  # watches from an older version are answered 410
        self.token_seconds = 3600.0
        self.tokens_issued = 0
        self.cut = asyncio.Event()

    @asynccontextmanager
    async def serving(self, directory: Path) -> AsyncIterator[ApiClient]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        socket = directory / "api.sock"
        await web.UnixSite(runner, str(socket)).start()
        client = ApiClient(socket=socket, token=TOKEN)
        try:
            yield client
        finally:
            await client.close()
            await runner.cleanup()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "Unauthorized", "no")
        body = await request.json() if request.can_read_body else {}
        path = request.path
        *_, last = path.split("/")
        subresource = last if last in SUBRESOURCES else ""
        path = path.removesuffix(f"/{subresource}") if subresource else path
        if subresource == "token":
            return self.issue(body)
        if request.method == "POST":
            return self.create(path, body)
        if request.method == "GET" and request.query.get("watch") == "true":
            return await self.watch(request)
        if request.method == "GET" and is_collection(path):
            items = [item for key, item in sorted(self.objects.items()) if within(key, path)]
            return web.json_response(
                {
                    "kind": "ThingList",
                    "apiVersion": "v1",
                    "metadata": {"resourceVersion": str(self.version)},
                    "items": items,
                }
            )
        if path not in self.objects:
            return refusal(404, "NotFound", f'"{last}" not found')
        current = self.objects[path]
        if request.method == "GET":
            return web.json_response(current)
        if request.method == "DELETE":
            return self.delete(path, current, body)
        merged = merge(current, body) if request.method == "PATCH" else body
        self.store("MODIFIED", path, merged)
        return web.json_response(merged)

    def create(self, path: str, body: Object) -> web.Response:
        return web.json_response(self.put(path, body), status=201)

    def put(self, collection: str, body: Object) -> Object:
        """Store a new object, as by a create."""
        name = body["metadata"]["name"]
        parts = collection.split("/")
        metadata = {"uid": f"uid-{name}-{self.version}", **body["metadata"]}
        if "namespaces" in parts and parts[-2] != "namespaces":
            metadata["namespace"] = parts[parts.index("namespaces") + 1]
        made = {**body, "metadata": metadata}
        self.store("ADDED", f"{collection}/{name}", made)
        return made

    def change(self, path: str, patch: Object) -> None:
        """Merge into an object, as by a patch."""
        self.store("MODIFIED", path, merge(self.objects[path], patch))

    def remove(self, path: str) -> None:
        """Delete an object at once."""
        gone = self.objects.pop(path)
        self.note("DELETED", path, gone)

    def delete(self, path: str, current: Object, options: Object) -> web.Response:
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != current["metadata"]["uid"]:
            return refusal(409, "Conflict", "another uid")
        self.remove(path)
        return web.json_response({"kind": "Status", "status": "Success"})

    def store(self, event: str, path: str, item: Object) -> None:
        self.objects[path] = item
        self.note(event, path, item)

    def note(self, event: str, path: str, item: Object) -> None:
        self.version += 1
        item["metadata"] = {**item["metadata"], "resourceVersion": str(self.version)}
        self.history.append((self.version, event, path, item))
        self.grown.set()
        self.grown = asyncio.Event()

    def issue(self, body: Object) -> web.Response:
        self.tokens_issued += 1
        expires = datetime.now(UTC) + timedelta(seconds=self.token_seconds)
        status = {"token": f"token-{self.tokens_issued}", "expirationTimestamp": expires.isoformat()}
        return web.json_response({**body, "status": status}, status=201)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.forget_before:
            return refusal(410, "Expired", "too old resource version")
        response = web.StreamResponse()
        await response.prepare(request)
        cut = self.cut
        while not cut.is_set():
            grown = self.grown
            for version, event, path, item in self.history:
                if version > since and within(path, request.path):
                    line = json.dumps({"type": event, "object": item}).encode() + b"\n"
                    try:
                        await response.write(line)
                    except ConnectionError:  # the client has gone
                        return response
            since = self.version
            waits = [asyncio.create_task(grown.wait()), asyncio.create_task(cut.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return response

    def cut_watches(self) -> None:
        """End every running watch."""
        self.cut.set()
        self.cut = asyncio.Event()

    async def until(self, condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
        """Wait until the objects fulfil a condition; its value."""
        async with asyncio.timeout(seconds):
            while True:
                grown = self.grown
                if value := condition():
                    return value
                await grown.wait()


def is_collection(path: str) -> bool:
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    return len(parts) == 1


def within(path: str, collection: str) -> bool:
    """Whether an object's path is in a collection, which may span all namespaces."""
    if path.rpartition("/")[0] == collection:
        return True
    base, _, plural = collection.rpartition("/")
    return path.startswith(f"{base}/namespaces/") and path.split("/")[-2] == plural


def merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def refusal(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(status, status=code)


class FakeProcess:
    """A process that the test ends; SIGKILL ends it always, SIGTERM unless it is told to be stubborn."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.pid = 1
        self.stdin = None
        self.stdout = asyncio.StreamReader()
        self.stderr = asyncio.StreamReader()
        self.signals: list[int] = []
        self._stubborn = stubborn
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(self, code: int, *, stdout: bytes = b"", stderr: bytes = b"") -> None:
        if self._code.done():
            return
        for stream, data in ((self.stdout, stdout), (self.stderr, stderr)):
            stream.feed_data(data)
            stream.feed_eof()
        self._code.set_result(code)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def signal(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL or (number == signal.SIGTERM and not self._stubborn):
            self.end(128 + number)

    async def resize(self, *, columns: int, rows: int) -> None:
        raise AssertionError("no test has a terminal")


# What a started container does: it is given its spec and its process, and may end the one by the other.
Behaviour = Callable[[ContainerSpec, FakeProcess], None]


class FakeRuntime:
    """Records what it is asked; containers behave as `behaviours`, by the first word of their argv, say."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, SandboxSpec] = {}
        self.removed: list[str] = []
        self.started: list[ContainerSpec] = []
        self.processes: dict[str, FakeProcess] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self.exec_results: Callable[[Sequence[str]], tuple[int, bytes]] = lambda argv: (0, b"")
        self.execs: list[tuple[str, tuple[str, ...], dict[str, str]]] = []

    def as_runtime(self) -> Runtime:
        return cast(Runtime, self)

    async def create_sandbox(self, spec: SandboxSpec) -> None:
        self.sandboxes[spec.uid] = spec

    async def remove_sandbox(self, uid: str) -> None:
        self.sandboxes.pop(uid, None)
        self.removed.append(uid)
        for spec in self.started:
            if spec.sandbox == uid:
                self.processes[spec.id].end(137)

    async def start(self, spec: ContainerSpec, *, stdin: bool = False) -> Process:
        if spec.argv[0] == "nope":
            raise StartError('exec: "nope": executable file not found in $PATH', 127)
        process = FakeProcess(stubborn="stubborn" in spec.argv)
        self.started.append(spec)
        self.processes[spec.id] = process
        behaviour = self.behaviours.get(spec.argv[0])
        if behaviour is not None:
            behaviour(spec, process)
        return cast(Process, process)

    async def exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdin: bool,
        tty: bool,
    ) -> Process:
        self.execs.append((container_id, tuple(argv), dict(env)))
        process = FakeProcess()
        code, output = self.exec_results(argv)
        process.end(code, stdout=output)
        return cast(Process, process)

    def process_of(self, *argv: str) -> FakeProcess:
        """The latest process started with this argv."""
        return self.processes[[spec for spec in self.started if spec.argv == argv][-1].id]


def pod(name: str = "x", *, namespace: str = "foo", **spec: Any) -> Object:
    """A pod of one container that runs until it is ended."""
    spec.setdefault("containers", [container()])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": {"app": name}},
        "spec": {"serviceAccountName": "default", **spec},
    }


def container(name: str = "app", *argv: str, **fields: Any) -> Object:
    return {"name": name, "image": "authz-conformance:dev", "command": list(argv) or ["run"], **fields}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
