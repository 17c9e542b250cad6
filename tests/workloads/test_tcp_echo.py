"""tcp-echo as the pods run it: a process of its own, spoken to over real sockets."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.workloads import tcp_echo

PROGRAM = Path(tcp_echo.__file__)
DEADLINE = 60.0  # seconds for anything that must happen at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    process: subprocess.Popen[str]
    port: int
    banner_port: int

    def log_line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith("\n")
        entry = json.loads(line)
        assert isinstance(entry, dict)
        return entry

    def connect(self, port: int | None = None) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port or self.port), timeout=DEADLINE)


@pytest.fixture
def echo() -> Iterator[Running]:
    command = [sys.executable, "-I", "-S", str(PROGRAM), "--name=echo", "--pod", "echo-1"]
    with subprocess.Popen(
        [*command, "--ports", "0", "--banner-ports", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        listening = json.loads(process.stdout.readline())
        assert listening["log"] == "listening"
        yield Running(process=process, port=listening["ports"][0], banner_port=listening["banner_ports"][0])
        process.kill()


def read_line(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        chunk = sock.recv(1)
        assert chunk, f"the connection ended after {data!r}"
        data += chunk
    return data


def test_every_line_is_answered_and_the_first_one_is_logged(echo: Running) -> None:
    with echo.connect() as sock:
        peer = "{}:{}".format(*sock.getsockname())
        sock.sendall(b"port 9000\n")
        assert read_line(sock) == b"hello port 9000\n"
        sock.sendall(b"world\nagain\n")
        assert read_line(sock) + read_line(sock) == b"hello world\nhello again\n"
    entry = echo.log_line()
    assert entry.pop("time") > 1_600_000_000
    assert entry == {
        "log": "connection",
        "workload": "echo",
        "pod": "echo-1",
        "port": echo.port,
        "peer": peer,
        "bytes": 10,
        "text": "port 9000",
    }


def test_the_log_has_the_line_before_the_client_has_the_answer(echo: Running) -> None:
    """The client holds its connection open, so only the write at the first line can have been read here."""
    with echo.connect() as sock:
        sock.sendall(b"nonce 17\n")
        read_line(sock)
        assert echo.log_line()["text"] == "nonce 17"


def test_one_connection_is_one_log_line(echo: Running) -> None:
    with echo.connect() as sock:
        sock.sendall(b"one\ntwo\n")
        read_line(sock)
    with echo.connect() as sock:
        sock.sendall(b"three\n")
        read_line(sock)
    assert [echo.log_line()["text"], echo.log_line()["text"]] == ["one", "three"]


@pytest.mark.parametrize(("sent", "text"), [(b"", ""), (b"no newline", "no newline"), (b"\xff\n", "\\xff")])
def test_what_came_is_logged_even_without_a_line(echo: Running, sent: bytes, text: str) -> None:
    with echo.connect() as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(100):
            pass
    entry = echo.log_line()
    assert (len(sent), text) == (entry["bytes"], entry["text"])


def test_the_answer_is_complete_after_a_half_close_and_then_the_connection_ends(echo: Running) -> None:
    with echo.connect() as sock:
        sock.sendall(b"port 9001\nunfinished")
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(100):
            answer += chunk
    assert answer == b"hello port 9001\n"


def test_a_reset_connection_is_logged_and_does_no_harm(echo: Running) -> None:
    sock = echo.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    assert echo.log_line()["bytes"] == 0
    with echo.connect() as after:
        after.sendall(b"still there\n")
        assert read_line(after) == b"hello still there\n"


def test_the_banner_port_speaks_first_and_then_echoes(echo: Running) -> None:
    with echo.connect(echo.banner_port) as sock:
        assert read_line(sock) == b"welcome port %d\n" % echo.banner_port
        sock.sendall(b"thanks\n")
        assert read_line(sock) == b"hello thanks\n"
    assert echo.log_line()["port"] == echo.banner_port


def test_an_endless_line_ends_the_connection(echo: Running) -> None:
    with echo.connect() as sock:
        with pytest.raises(OSError, match=r"reset|Broken pipe"):  # noqa: PT012 - the server may close at any send
            while True:
                sock.sendall(b"x" * 65536)
        entry = echo.log_line()
    assert entry["bytes"] > tcp_echo.LINE_LIMIT
    assert entry["text"] == "x" * tcp_echo.LOGGED_TEXT_LIMIT


def test_five_hundred_clients_at_once_are_all_answered_and_logged(echo: Running) -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(echo.connect()) for _ in range(500)]
        for number, sock in enumerate(socks):
            sock.sendall(b"client %d\n" % number)
        # In turns, because the server waits for a reader of its log rather than lose a line.
        seen = [(read_line(sock), echo.log_line()["text"]) for sock in socks]
    assert [answer for answer, _ in seen] == [b"hello client %d\n" % number for number in range(500)]
    assert {text for _, text in seen} == {f"client {number}" for number in range(500)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0_and_open_connections_are_logged(echo: Running, number: int) -> None:
    with echo.connect(echo.banner_port) as sock:
        read_line(sock)  # the server has the connection
        echo.process.send_signal(number)
        assert echo.process.wait(DEADLINE) == 0
    entry = echo.log_line()
    assert (entry["port"], entry["bytes"]) == (echo.banner_port, 0)


def test_a_port_in_use_is_named_and_fails(echo: Running) -> None:
    outcome = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), "--ports", str(echo.port), "--banner-ports", ""],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert outcome.returncode == 1
    assert "tcp-echo: cannot listen" in outcome.stderr
    assert str(echo.port) in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ports", "http"], "ports must be numbers"),
        (["--ports=65536"], "ports must be 0..65535"),
        (["--nmae", "x"], "unknown option '--nmae'"),
        (["--pod"], "--pod needs a value"),
    ],
)
def test_a_bad_command_line_is_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tcp_echo.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_environment_names_the_workload_and_the_pod() -> None:
    options = tcp_echo.parse_arguments([], {"WORKLOAD_NAME": "other", "POD_NAME": "other-7"})
    assert (options.name, options.pod) == ("other", "other-7")
    assert (options.ports, options.banner_ports) == ((9000, 9001, 9002), (9003,))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("10.244.0.12", 41234), "10.244.0.12:41234"),
        (("::ffff:10.244.0.12", 41234, 0, 0), "10.244.0.12:41234"),
        (("fd00::c", 41234, 0, 0), "[fd00::c]:41234"),
    ],
)
def test_a_peer_is_written_the_same_on_both_kinds_of_socket(
    address: tuple[str, int] | tuple[str, int, int, int], name: str
) -> None:
    assert tcp_echo.peer_name(address) == name
