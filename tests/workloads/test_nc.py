"""nc as the walkthrough uses it: a process with real standard streams against a real listener."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.workloads import nc

PROGRAM = Path(nc.__file__)
DEADLINE = 60.0
COMMAND = [sys.executable, "-I", "-S", str(PROGRAM)]


def run(
    *arguments: str, stdin: bytes = b"", keep_stdin_open: bool = False
) -> subprocess.CompletedProcess[bytes]:
    if keep_stdin_open:
        with subprocess.Popen(
            [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.flush()
            try:
                process.wait(DEADLINE)
            finally:
                process.kill()
            assert process.stdout is not None
            assert process.stderr is not None
            return subprocess.CompletedProcess(
                process.args, process.returncode, process.stdout.read(), process.stderr.read()
            )
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, timeout=DEADLINE, check=False
    )


@contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listener that treats one client as `behave` says; gives its port as text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(DEADLINE)
                behave(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(listener.getsockname()[1])
        thread.join(DEADLINE)
        assert not thread.is_alive()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port where nobody listens, which is given to nobody else; who sets SO_REUSEADDR may listen there."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


def read_to_the_end(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def read_one_byte(sock: socket.socket) -> None:
    sock.recv(1)


def swallow(sock: socket.socket) -> None:
    read_to_the_end(sock)


def test_the_answer_to_a_pipeline_is_complete_and_it_ends_by_itself() -> None:
    def answer_after_the_half_close(sock: socket.socket) -> None:
        sock.sendall(b"hello " + read_to_the_end(sock))

    with server(answer_after_the_half_close) as port:
        outcome = run("127.0.0.1", port, stdin=b"port 9000\n")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"hello port 9000\n", b"")


def test_a_server_that_closes_after_the_first_byte_ends_it_silently_with_0() -> None:
    with server(read_one_byte) as port:
        outcome = run("127.0.0.1", port, stdin=b"port 9001\n")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"", b"")


def test_a_server_that_resets_ends_it_silently_with_0() -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with server(reset) as port:
        outcome = run("127.0.0.1", port, stdin=b"port 9001\n")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"", b"")


def test_a_server_that_closes_ends_it_though_standard_input_stays_open() -> None:
    with server(lambda sock: sock.sendall(b"welcome\n")) as port:
        outcome = run("127.0.0.1", port, keep_stdin_open=True)
    assert (outcome.returncode, outcome.stdout) == (0, b"welcome\n")


def test_four_megabytes_arrive_whole_in_both_directions() -> None:
    load = bytes(range(256)) * 16384

    def echo(sock: socket.socket) -> None:
        while chunk := sock.recv(65536):
            sock.sendall(chunk)

    with server(echo) as port:
        outcome = run("127.0.0.1", port, stdin=load)
    assert outcome.stdout == load


def test_a_refused_connection_is_named_with_code_1() -> None:
    with reserved_port() as port:
        outcome = run("127.0.0.1", str(port), stdin=b"x\n")
    assert outcome.returncode == 1
    expected = f"nc: connect to 127.0.0.1 (127.0.0.1) port {port} (tcp) failed: Connection refused\n"
    assert outcome.stderr.decode() == expected


def test_an_unknown_name_is_named_with_code_1() -> None:
    outcome = run("-n", "tcp-echo", "9000")
    assert outcome.returncode == 1
    assert b'nc: getaddrinfo for host "tcp-echo" port 9000: ' in outcome.stderr


def test_a_scan_connects_and_sends_nothing() -> None:
    received: list[bytes] = []
    with server(lambda sock: received.append(read_to_the_end(sock))) as port:
        outcome = run("-zw", "60", "127.0.0.1", port, stdin=b"not to be sent\n")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"", b"")
    assert received == [b""]


def test_verbose_says_that_it_is_connected() -> None:
    with server(lambda sock: None) as port:
        outcome = run("-zv", "127.0.0.1", port)
    assert f"Connection to 127.0.0.1 {port} port [tcp] succeeded!\n" == outcome.stderr.decode()


def test_the_idle_timeout_ends_a_connection_where_nothing_moves() -> None:
    with server(swallow) as port:
        outcome = run("-w", "0.1", "127.0.0.1", port, keep_stdin_open=True)
    assert (outcome.returncode, outcome.stdout) == (0, b"")


def test_listening_takes_one_connection() -> None:
    with (
        reserved_port() as port,
        subprocess.Popen(
            [*COMMAND, "-lv", "127.0.0.1", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.readline() == f"Listening on 127.0.0.1 {port}\n".encode()
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            sock.sendall(b"ping\n")
            assert process.stdout is not None
            assert process.stdout.readline() == b"ping\n"
            assert process.stdin is not None
            process.stdin.write(b"pong\n")
            process.stdin.flush()
            assert sock.recv(100) == b"pong\n"
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a host and a port are needed"),
        (["tcp-echo"], "a host and a port are needed"),
        (["tcp-echo", "http"], "port number invalid: http"),
        (["tcp-echo", "0"], "port number invalid: 0"),
        (["-w", "soon", "tcp-echo", "9000"], "timeout invalid: soon"),
        (["-w"], "-w needs a number of seconds"),
        (["-q1", "tcp-echo", "9000"], "unknown option -q"),
        (["-lz", "9000"], "cannot be combined"),
    ],
)
def test_a_bad_command_line_is_explained(arguments: list[str], message: str) -> None:
    with pytest.raises(nc.NetcatError, match=message):
        nc.parse_arguments(arguments)


def test_flags_may_be_bundled_and_come_after_the_operands() -> None:
    options = nc.parse_arguments(["tcp-echo", "9000", "-zvw1.5"])
    assert (options.host, options.port, options.timeout) == ("tcp-echo", 9000, 1.5)
    assert options.flags == {"z", "v"}
