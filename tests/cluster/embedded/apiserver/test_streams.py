"""Exec and logs, with the official client, kubectl and a bare WebSocket; processes are real, pods are not."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from conformance.cluster.embedded.apiserver.status import ApiError, not_found
from conformance.cluster.embedded.apiserver.streams import StreamError, handle_exec, handle_log

KUBECTL = Path(sys.executable).with_name("kubectl")
PODS: dict[str, dict[str, Any]] = {
    name: {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "foo"},
        "spec": {"nodeName": "embedded", "containers": [{"name": c} for c in containers]},
        "status": {"phase": "Running"},
    }
    for name, containers in {"one": ["main"], "two": ["a", "b"]}.items()
}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/foo": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["get"], "singularName": "pod"}
        ],
    },
}


class Session:
    """A process of this machine as what an exec stream talks to."""

    def __init__(self, process: asyncio.subprocess.Process, host: Host) -> None:
        self.process = process
        self.host = host

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(maxsize=4)

        async def pump(channel: int, reader: asyncio.StreamReader | None) -> None:
            assert reader is not None
            while chunk := await reader.read(65536):
                await queue.put((channel, chunk))
            await queue.put((channel, b""))

        tasks = [
            asyncio.create_task(pump(1, self.process.stdout)),
            asyncio.create_task(pump(2, self.process.stderr)),
        ]
        ended = 0
        while ended < len(tasks):
            channel, chunk = await queue.get()
            ended += not chunk
            if chunk:
                yield channel, chunk

    async def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(ConnectionError):
            self.process.stdin.write(data)
            await self.process.stdin.drain()

    async def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def resize(self, *, columns: int, rows: int) -> None:
        self.host.sizes.append((columns, rows))

    async def wait(self) -> int:
        return await self.process.wait()

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.host.killed.set()


class Host:
    """The kubelet's part, and a small API around it, in a thread of its own."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.logs: list[dict[str, Any]] = []
        self.killed = threading.Event()
        self.log_closed = threading.Event()
        self.address: Future[str] = Future()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        self.url = self.address.result(60)

    async def open_exec(self, *, container: str, command: Sequence[str], **_: Any) -> Session:
        if command == ["nope"]:
            raise StreamError(500, "InternalError", f"no such command in {container}")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return Session(process, self)

    async def read_logs(self, **asked: Any) -> AsyncIterator[bytes]:
        self.logs.append(asked)
        if asked["previous"]:
            raise StreamError(
                400, "BadRequest", 'previous terminated container "main" in pod "one" not found'
            )
        try:
            yield b"first\n"
            yield b"second\n"
            if asked["follow"]:
                await asyncio.get_running_loop().create_future()
        finally:
            self.log_closed.set()

    async def _pod(self, request: web.Request) -> web.StreamResponse:
        name, subresource = request.match_info["name"], request.match_info.get("subresource")
        try:
            if name not in PODS:
                raise not_found("pods", name)
            if subresource == "exec":
                return await handle_exec(request, streams=self, namespace="foo", pod=PODS[name])
            if subresource == "log":
                return await handle_log(request, streams=self, namespace="foo", pod=PODS[name])
            return web.json_response(PODS[name])
        except ApiError as error:
            return web.json_response(error.to_status(), status=error.code)

    async def _document(self, request: web.Request) -> web.Response:
        return web.json_response(DOCUMENTS[request.path])

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        application = web.Application()
        application.router.add_route("*", "/api/v1/namespaces/foo/pods/{name}", self._pod)
        application.router.add_route("*", "/api/v1/namespaces/foo/pods/{name}/{subresource}", self._pod)
        for path in DOCUMENTS:
            application.router.add_get(path, self._document)
        runner = web.AppRunner(application, shutdown_timeout=0.1)

        async def start() -> None:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.address.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")

        self.loop.run_until_complete(start())
        self.loop.run_forever()
        self.loop.run_until_complete(runner.cleanup())
        self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stop()


@pytest.fixture
def host(shared_host: Host) -> Host:
    shared_host.killed.clear()
    shared_host.log_closed.clear()
    shared_host.sizes.clear()
    shared_host.logs.clear()
    return shared_host


@pytest.fixture
def api(host: Host) -> Iterator[client.CoreV1Api]:
    configuration = client.Configuration()
    configuration.host = host.url
    with client.ApiClient(configuration) as connection:
        yield client.CoreV1Api(connection)


def open_stream(api: client.CoreV1Api, *command: str, pod: str = "one", **more: Any) -> Any:
    options = {"stdin": True, "stdout": True, "stderr": True, "tty": False, "_preload_content": False} | more
    return stream(api.connect_get_namespaced_pod_exec, pod, "foo", command=list(command), **options)


@contextmanager
def opened(session: Any) -> Iterator[Any]:
    """Closes the session's socket as well, which the client forgets once the server has closed."""
    try:
        yield session
    finally:
        session.close()
        session.sock.shutdown()


def kubectl(
    host: Host, home: Path, *arguments: str, send: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KUBECTL, "--server", host.url, "--namespace", "foo", *arguments],
        input=send,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "KUBECONFIG": str(home / "none")},
    )


def test_the_client_gets_both_outputs_and_the_exit_code(api: client.CoreV1Api) -> None:
    with opened(open_stream(api, "sh", "-c", "echo out; echo err >&2; exit 7")) as session:
        session.run_forever(timeout=60)
        assert session.read_stdout() == "out\n"
        assert session.read_stderr() == "err\n"
        assert session.returncode == 7


def test_the_client_talks_with_a_process_over_one_open_stream(api: client.CoreV1Api, host: Host) -> None:
    with opened(open_stream(api, "cat")) as session:
        for number in range(20):
            session.write_stdin(f"line {number}\n")
            assert session.readline_stdout(timeout=60) == f"line {number}"
    assert host.killed.wait(60), "the process ends with its client"


def test_much_output_arrives_whole(api: client.CoreV1Api) -> None:
    with opened(open_stream(api, "head", "-c", "3000000", "/dev/zero", stdin=False)) as session:
        session.run_forever(timeout=60)
        assert len(session.read_stdout()) == 3_000_000
        assert session.returncode == 0


@pytest.mark.parametrize(
    ("pod", "container", "command", "code", "words"),
    [
        ("gone", None, "true", 404, 'pods \\"gone\\" not found'),
        ("two", None, "true", 400, "a container name must be specified for pod two, choose one of: [a b]"),
        ("one", "other", "true", 400, "container other is not valid for pod one"),
    ],
)
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_what_is_wrong_is_a_status_before_the_upgrade(
    api: client.CoreV1Api, pod: str, container: str | None, command: str, code: int, words: str
) -> None:
    more = {"container": container} if container else {}
    with pytest.raises(ApiException) as caught:
        open_stream(api, command, pod=pod, **more)
    assert f"Handshake status {code}" in caught.value.reason
    assert words in caught.value.reason
    del caught
    gc.collect()  # the client leaves the refused socket to the collector


def test_kubectl_exec_passes_stdin_its_end_and_the_exit_code(host: Host, tmp_path: Path) -> None:
    piped = kubectl(host, tmp_path, "exec", "-i", "one", "--", "cat", send="to the end\n")
    assert (piped.stdout, piped.returncode) == ("to the end\n", 0), piped.stderr
    failed = kubectl(host, tmp_path, "exec", "one", "--", "sh", "-c", "echo oops >&2; exit 3")
    assert failed.returncode == 3
    assert failed.stderr == "oops\ncommand terminated with exit code 3\n"


def test_kubectl_exec_tells_what_is_wrong(host: Host, tmp_path: Path) -> None:
    refused = kubectl(host, tmp_path, "exec", "one", "--", "nope")
    assert refused.returncode == 1
    assert refused.stderr == "error: Internal error occurred: no such command in main\n"
    missing = kubectl(host, tmp_path, "exec", "gone", "--", "true")
    assert 'pods "gone" not found' in missing.stderr


async def converse(host: Host, protocol: str, *messages: bytes, command: str = "cat") -> list[bytes]:
    """Sends the messages, then everything until the server closes."""
    url = f"{host.url}/api/v1/namespaces/foo/pods/one/exec"
    query = {"command": command, "stdin": "1", "stdout": "1", "stderr": "1"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, params=query, protocols=[protocol]) as socket,
    ):
        assert socket.protocol == protocol
        for message in messages:
            await socket.send_bytes(message)
        async with asyncio.timeout(60):
            return [message.data async for message in socket]


def test_v5_closes_stdin_and_resizes_and_ends_with_the_status(host: Host) -> None:
    size = b'\x04{"Width": 80, "Height": 24}'
    received = asyncio.run(converse(host, "v5.channel.k8s.io", size, b"\x04no size", b"\x00hi", b"\xff\x00"))
    assert received[0] == b"\x01hi"
    assert received[-1][:1] == b"\x03"
    assert json.loads(received[-1][1:]) == {"metadata": {}, "status": "Success"}
    assert host.sizes == [(80, 24)]


def test_the_status_tells_a_failure_as_kubernetes_does(host: Host) -> None:
    received = asyncio.run(converse(host, "v4.channel.k8s.io", command="false"))
    assert json.loads(received[-1][1:]) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: exit status 1",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "1"}]},
    }


def test_a_client_that_vanishes_takes_its_process_along_even_if_that_never_reads(host: Host) -> None:
    async def vanish() -> None:
        url = f"{host.url}/api/v1/namespaces/foo/pods/one/exec"
        query = [("command", "sleep"), ("command", "600"), ("stdin", "1"), ("stdout", "1")]
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(url, params=query, protocols=["v5.channel.k8s.io"])
            # More than the pipe takes, so the server is waiting for the process as the client goes.
            await socket.send_bytes(b"\x00" + b"x" * 1_000_000)
            assert socket._response.connection is not None
            transport = socket._response.connection.transport
            assert transport is not None
            transport.abort()

    asyncio.run(vanish())
    assert host.killed.wait(60)


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ("command=true&stdout=1", {}, 400),
        ("command=true", {}, 422),
        ("stdout=1", {}, 422),
    ],
)
def test_a_bad_exec_request_is_refused(host: Host, query: str, headers: dict[str, str], code: int) -> None:
    async def ask() -> tuple[int, dict[str, Any]]:
        url = f"{host.url}/api/v1/namespaces/foo/pods/one/exec?{query}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status, await answer.json()

    status, body = asyncio.run(ask())
    assert status == code
    assert body["kind"] == "Status"


def test_logs_are_read_with_every_option(api: client.CoreV1Api, host: Host) -> None:
    text = api.read_namespaced_pod_log(
        "one", "foo", tail_lines=5, timestamps=True, limit_bytes=9, since_seconds=3
    )
    assert text == "first\nsecond\n"
    assert host.logs == [
        {
            "namespace": "foo",
            "pod": "one",
            "container": "main",
            "follow": False,
            "previous": False,
            "timestamps": True,
            "tail_lines": 5,
            "since_seconds": 3,
            "limit_bytes": 9,
        }
    ]


def test_a_followed_log_arrives_at_once_and_ends_with_its_reader(api: client.CoreV1Api, host: Host) -> None:
    response = api.read_namespaced_pod_log("one", "foo", follow=True, _preload_content=False)
    assert response.readline() == b"first\n"
    assert not host.log_closed.is_set()
    response.close()
    assert host.log_closed.wait(60)


def test_kubectl_logs(host: Host, tmp_path: Path) -> None:
    printed = kubectl(host, tmp_path, "logs", "one", "--tail", "2")
    assert (printed.stdout, printed.stderr) == ("first\nsecond\n", "")
    refused = kubectl(host, tmp_path, "logs", "one", "--previous")
    assert refused.returncode == 1
    assert 'previous terminated container "main" in pod "one" not found' in refused.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"tail_lines": -1}, 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limit_bytes": 0}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"container": "x"}, 400, "container x is not valid for pod one"),
    ],
)
def test_a_bad_log_request_is_refused(
    api: client.CoreV1Api, options: dict[str, Any], code: int, words: str
) -> None:
    with pytest.raises(ApiException) as caught:
        api.read_namespaced_pod_log("one", "foo", **options)
    assert caught.value.status == code
    assert words in caught.value.body
