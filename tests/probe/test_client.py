"""The client as a process of its own, against servers that behave in every way a peer can."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from conformance.errors import ProbeError
from conformance.evidence import Kind, Observation
from conformance.probe.session import CLIENT_COMMAND, Request, Session, Watched

Behaviour = Callable[[socket.socket], None]


class Pipe:
    """A LineStream onto a local process."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def send(self, line: str) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(line + "\n")
        except OSError as error:
            raise ProbeError(str(error)) from None

    def receive(self, deadline: float) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise ProbeError("the command ended")
        return line

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(OSError):  # what could not be delivered
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    session = Session(Pipe((sys.executable, *CLIENT_COMMAND[1:])), "here")
    session.boot(10)
    yield session
    session.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], int]]:
    """Starts a server whose connections are handled by a behaviour; gives its port."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(behaviour: Behaviour) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection):
                behaviour(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        threads.append(thread)
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


def probe(session: Session, port: int, *, host: str = "127.0.0.1", timeout: float = 60.0) -> Observation:
    session.start([Request(id="a", host=host, port=port, line="port 9000 n0", timeout=timeout)])
    return session.finish()["a"]


def echo(connection: socket.socket) -> None:
    connection.sendall(b"hello " + connection.recv(100))


def in_pieces(connection: socket.socket) -> None:
    connection.recv(100)
    for piece in (b"welcome\nhel", b"lo port 9000", b" n0", b"\n"):
        connection.sendall(piece)


def fin_after_the_line(connection: socket.socket) -> None:
    connection.recv(100)


def reset(connection: socket.socket) -> None:
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def banner_then_fin(connection: socket.socket) -> None:
    connection.sendall(b"welcome\n")
    connection.recv(100)


def half_an_answer(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"hello port 9000 n")


def another_answer(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"hello port 9000 n1\n")


def silent(connection: socket.socket) -> None:
    while connection.recv(100):
        pass


@pytest.mark.parametrize(
    ("behaviour", "kind", "ended_by"),
    [
        (echo, Kind.ANSWERED, "us"),
        (in_pieces, Kind.ANSWERED, "us"),
        (fin_after_the_line, Kind.CLOSED, "fin"),
        (reset, Kind.RESET, "rst"),
        (banner_then_fin, Kind.BANNER, "fin"),
        (half_an_answer, Kind.BANNER, "fin"),
        (another_answer, Kind.BANNER, "fin"),
    ],
)
def test_how_a_connection_went(
    session: Session, serve: Callable[[Behaviour], int], behaviour: Behaviour, kind: Kind, ended_by: str
) -> None:
    observation = probe(session, serve(behaviour))
    assert (kind, ended_by) == (observation.kind, observation.ended_by)
    assert observation.sent_bytes == len("port 9000 n0\n")
    assert observation.connect_ms is not None


def test_silence_is_a_timeout_and_no_verdict(session: Session, serve: Callable[[Behaviour], int]) -> None:
    observation = probe(session, serve(silent), timeout=0.1)
    assert (observation.kind, observation.ended_by) == (Kind.TIMED_OUT, "deadline")


def test_nobody_listens(session: Session) -> None:
    with socket.socket() as taken:  # bound, so that nobody else is given it, and not listening
        taken.bind(("127.0.0.1", 0))
        assert probe(session, int(taken.getsockname()[1])).kind is Kind.REFUSED


def test_a_name_that_does_not_resolve_is_unknown(session: Session) -> None:
    observation = probe(session, 9000, host="no-such-name.invalid")
    assert observation.kind is Kind.UNKNOWN
    assert "does not resolve" in observation.why


def test_a_sweep_runs_at_once_and_one_slow_probe_spoils_no_other(
    session: Session, serve: Callable[[Behaviour], int]
) -> None:
    ports = {"slow": serve(silent), "closed": serve(fin_after_the_line), "good": serve(echo)}
    session.start(
        [
            Request(id=name, host="127.0.0.1", port=port, line="port 9000 n0", timeout=0.3)
            for name, port in ports.items()
        ]
    )
    seen = session.finish()
    assert {name: item.kind for name, item in seen.items()} == {
        "slow": Kind.TIMED_OUT,
        "closed": Kind.CLOSED,
        "good": Kind.ANSWERED,
    }


def test_a_prober_that_is_gone_makes_everything_unknown() -> None:
    session = Session(Pipe((sys.executable, "-c", "pass")), "sleep.foo")
    with pytest.raises(ProbeError):
        session.boot(5)
    session.start([Request(id="a", host="127.0.0.1", port=1, line="port 1 n", timeout=1)])
    assert session.finish()["a"].kind is Kind.UNKNOWN
    assert session.broken
    session.close()


def test_an_answer_to_another_request_is_not_taken() -> None:
    class Late:
        def send(self, line: str) -> None:
            return

        def receive(self, deadline: float) -> str:
            return json.dumps({"id": 7, "results": []})

        def close(self) -> None:
            return

    session = Session(Late(), "sleep.foo")
    session.start([Request(id="a", host="127.0.0.1", port=1, line="port 1 n", timeout=1)])
    assert session.finish()["a"].kind is Kind.UNKNOWN


def watched(session: Session, port: int, until: Callable[[], bool], *, timeout: float = 2.0) -> Watched:
    """A watch of one port that is on until something holds."""
    line = "port 9000 {nonce}"
    session.watch(
        [Request(id="a", host="127.0.0.1", port=port, line=line, timeout=timeout)],
        nonce="n01234567",
        every=0.001,
    )
    deadline = time.monotonic() + 20
    while not until() and time.monotonic() < deadline:
        assert probe(session, closed_port()).kind is Kind.REFUSED  # sweeps go on meanwhile
    session.unwatch()
    return session.watched()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Door:
    """A server that ends each connection after its line, and answers the one of that number."""

    def __init__(self, opens_at: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.lines: list[str] = []
        self.opens_at = opens_at
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with closing(connection), suppress(OSError):
                    self.lines.append(connection.recv(100).decode())
                    if len(self.lines) == self.opens_at:
                        connection.sendall(b"hello " + self.lines[-1].encode())


def test_a_watch_sees_the_one_connection_that_gets_through(session: Session) -> None:
    door = Door(opens_at=5)
    result = watched(session, door.port, lambda: len(door.lines) > 8)
    opened = [one for one in result.sightings if one.seen.kind is Kind.ANSWERED]
    assert [one.count for one in opened] == [1]
    assert opened[0].seen.received == f"hello {door.lines[4]}"
    assert opened[0].at_ms > 0
    assert opened[0].seen.opened_at > 0
    assert result.rounds == len(door.lines) == sum(one.count for one in result.sightings)
    assert [line.split()[-1] for line in door.lines] == [f"n01234567{n:08x}" for n in range(result.rounds)]
    door.listener.shutdown(socket.SHUT_RDWR)
    door.thread.join()
    door.listener.close()


def test_a_watch_ends_soon_where_nobody_answers(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = watched(session, silent.getsockname()[1], lambda: True, timeout=600.0)
    assert result.rounds == 1
    assert [(one.seen.kind, one.seen.why) for one in result.sightings] == [
        (Kind.UNKNOWN, "given up: the watch ended first")
    ]


def test_a_watch_whose_prober_is_gone_is_lost() -> None:
    pipe = Pipe((sys.executable, *CLIENT_COMMAND[1:]))
    session = Session(pipe, "here")
    session.boot(10)
    line = "port 9000 {nonce}"
    request = Request(id="a", host="127.0.0.1", port=closed_port(), line=line, timeout=2.0)
    session.watch([request], nonce="n01234567", every=0.001)
    pipe.process.kill()
    pipe.process.wait()
    session.unwatch()
    assert session.watched().lost
    session.close()


def test_ending_a_watch_that_is_not_on_tells_nothing(session: Session) -> None:
    session.unwatch()
    assert session.watched().lost == "none was on"
