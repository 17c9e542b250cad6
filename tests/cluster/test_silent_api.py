"""An API that accepts a connection and then does not answer: a cause in words, never a wait without end."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection

from conformance.cluster.exec import open_exec
from conformance.cluster.kube import Kube
from conformance.cluster.logs import end_log, log_lines, open_log, read_log
from conformance.errors import ProbeError, SetupError

TIMEOUT = 0.3
PATIENCE = 60.0
POD: dict[str, Any] = {"namespace": "foo", "pod": "x", "container": "c"}
LOG = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n"
Answer = Callable[[bytes, socket.socket], None]


def nothing(head: bytes, to: socket.socket) -> None:
    """Accepted, and that is all."""


def accepts_exec(head: bytes, to: socket.socket) -> None:
    """The handshake of a WebSocket, and that is all."""
    key = next(
        line.split()[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    to.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def half_a_frame(head: bytes, to: socket.socket) -> None:
    accepts_exec(head, to)
    to.sendall(b"\x82\x10\x01half")


def accepts_log(head: bytes, to: socket.socket) -> None:
    to.sendall(LOG + b"\r\n")


def late_line(head: bytes, to: socket.socket) -> None:
    """A line after a silence that is longer than any request may take."""
    to.sendall(LOG + b"\r\n")
    threading.Event().wait(4 * TIMEOUT)  # the silence
    to.sendall(b"5\r\nline\n\r\n0\r\n\r\n")


def late_line_and_close(head: bytes, to: socket.socket) -> None:
    """The same by way of a proxy that takes one request per connection."""
    to.sendall(LOG + b"Connection: close\r\n\r\n")
    threading.Event().wait(4 * TIMEOUT)  # the silence
    to.sendall(b"5\r\nline\n\r\n0\r\n\r\n")


def no_body(head: bytes, to: socket.socket) -> None:
    to.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n")


@contextmanager
def serving(answer: Answer, folder: Path) -> Iterator[Kube]:
    """A connection to an API that answers each request so and then waits for its client to go."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                answer(head, connection)
                while connection.recv(65536):
                    pass
            except OSError:
                pass  # the client is gone

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        file = folder / "kubeconfig"
        file.write_text(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
            f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{listener.getsockname()[1]}'}}}}]\n"
            "users: [{name: u, user: {token: t}}]\n"
        )
        kube = Kube(file, timeout=TIMEOUT)
        yield kube
        kube.close()
        listener.shutdown(socket.SHUT_RDWR)


def ended(call: Callable[[], Any]) -> Any:
    """What the call returns, or raises; a failure where it does not end."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((call(), None))
        except Exception as error:  # noqa: BLE001 - handed on below
            found.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it does not end"
    value, error = found[0]
    if error is not None:
        raise error
    return value


def test_an_exec_request_without_an_answer(tmp_path: Path) -> None:
    with (
        serving(nothing, tmp_path) as kube,
        pytest.raises(
            ProbeError, match=r"^prober: the Kubernetes API did not answer the exec request within 0.3 s$"
        ),
    ):
        ended(lambda: open_exec(kube, **POD, command=("true",), what="prober"))


def test_an_exec_stream_without_a_line(tmp_path: Path) -> None:
    with serving(accepts_exec, tmp_path) as kube:
        stream = ended(lambda: open_exec(kube, **POD, command=("true",), what="prober"))
        with pytest.raises(ProbeError, match=r"^prober: no line within its deadline$"):
            ended(lambda: stream.receive(time.monotonic() + TIMEOUT))
        with pytest.raises(ProbeError, match=r"^prober: it did not end within its deadline$"):
            ended(lambda: stream.receive_all(time.monotonic() + TIMEOUT))
        ended(stream.close)


def test_an_exec_stream_that_stops_within_a_frame(tmp_path: Path) -> None:
    with serving(half_a_frame, tmp_path) as kube:
        stream = ended(lambda: open_exec(kube, **POD, command=("true",), what="prober"))
        with pytest.raises(ProbeError, match="prober: the exec stream broke: "):
            ended(lambda: stream.receive(time.monotonic() + PATIENCE))
        ended(stream.close)


def test_a_log_without_an_answer(tmp_path: Path) -> None:
    with (
        serving(nothing, tmp_path) as kube,
        pytest.raises(
            SetupError, match=r"^log of foo/x: no answer from the Kubernetes API at http://127.0.0.1"
        ),
    ):
        ended(lambda: open_log(kube, **POD))


@pytest.mark.parametrize("answer", [late_line, late_line_and_close])
def test_silence_is_normal_in_a_log_that_is_open(answer: Answer, tmp_path: Path) -> None:
    with serving(answer, tmp_path) as kube:
        response = ended(lambda: open_log(kube, **POD, tail=0))
        assert ended(lambda: list(log_lines(response))) == [b"line"]


def test_a_log_by_way_of_a_proxy_that_speaks_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    getresponse = HTTPConnection.getresponse

    def without_shutdown(self: HTTPConnection) -> HTTPResponse:
        """As urllib3 has it there: its SSLTransport is no socket."""
        response = getresponse(self)
        response._sock_shutdown = None
        return response

    monkeypatch.setattr(HTTPConnection, "getresponse", without_shutdown)
    with serving(late_line, tmp_path) as kube:
        response = ended(lambda: open_log(kube, **POD, tail=0))
        assert ended(lambda: list(log_lines(response))) == [b"line"]


def test_a_silent_log_can_be_ended(tmp_path: Path) -> None:
    with serving(accepts_log, tmp_path) as kube:
        response = ended(lambda: open_log(kube, **POD))
        reader = threading.Thread(target=lambda: list(log_lines(response)), daemon=True)
        reader.start()
        end_log(response)
        reader.join(PATIENCE)
        assert not reader.is_alive()


@pytest.mark.parametrize("answer", [nothing, no_body])
def test_last_words_are_done_without(answer: Answer, tmp_path: Path) -> None:
    with serving(answer, tmp_path) as kube:
        assert ended(lambda: read_log(kube, **POD)) == ""


def test_an_answer_without_its_body(tmp_path: Path) -> None:
    with (
        serving(no_body, tmp_path) as kube,
        pytest.raises(SetupError, match=r"^no answer from the Kubernetes API at http://127.0.0.1"),
    ):
        ended(lambda: kube.request("GET", "/api/v1"))
