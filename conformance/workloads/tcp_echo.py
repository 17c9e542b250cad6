"""The server under protection: answers each line with `hello ` and the line, and testifies to connections.

Started as `python -I -S tcp_echo.py`; needs nothing but the standard library, and nothing slow to import.
One file, longer than the others, because it travels alone: in a ConfigMap into pods of any Python image.

Ports 9000, 9001 and 9002 wait for the client; 9003 speaks first (`welcome port 9003`) and then does the same.
For each accepted connection exactly one JSON line goes to standard output, when the first complete line
has been read and *before* it is answered, or when the connection ends without one:

    {"log": "connection", "workload": "tcp-echo", "pod": "tcp-echo-1", "port": 9000,
     "peer": "10.244.0.12:41234", "bytes": 10, "text": "port 9000", "time": 1700000000.123456}

`bytes` counts everything received so far and `text` is the first line without its ending (or the bytes that
came instead of one); `time` is in seconds since the epoch. So a client that has its answer is in the log.
When all ports are bound, one line with `"log": "listening"` says so.
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

PORTS = (9000, 9001, 9002)
BANNER_PORTS = (9003,)
BACKLOG = 1024
LINE_LIMIT = 64 * 1024  # bytes; a longer line ends the connection
OUTPUT_LIMIT = 256 * 1024  # bytes waiting for a client that does not read; above it we do not read either
LOGGED_TEXT_LIMIT = 1024  # characters of an unfinished or very long line that the log repeats
READ_SIZE = 64 * 1024

USAGE = """\
usage: tcp-echo [--name NAME] [--pod POD] [--ports P,P,...] [--banner-ports P,P,...]

  --name NAME          workload name in the log (default: $WORKLOAD_NAME, else tcp-echo)
  --pod POD            pod name in the log (default: $POD_NAME, else the host name)
  --ports LIST         ports that wait for the client (default: 9000,9001,9002)
  --banner-ports LIST  ports that speak first (default: 9003); an empty list is allowed
"""


class UsageError(Exception):
    """The command line cannot be understood."""


class Options:
    """What the command line and the environment say."""

    __slots__ = ("banner_ports", "name", "pod", "ports")

    def __init__(self, *, name: str, pod: str, ports: tuple[int, ...], banner_ports: tuple[int, ...]) -> None:
        self.name = name
        self.pod = pod
        self.ports = ports
        self.banner_ports = banner_ports


class Connection:
    """One accepted connection: what came in, what still has to go out, and whether the log has it."""

    __slots__ = ("ended", "inbound", "logged", "outbound", "peer", "port", "received", "sock")

    def __init__(self, sock: socket.socket, *, port: int, peer: str) -> None:
        self.sock = sock
        self.port = port
        self.peer = peer
        self.inbound = bytearray()
        self.outbound = bytearray()
        self.received = 0  # bytes
        self.ended = False  # the client has sent its last byte
        self.logged = False

    def wanted_events(self) -> int:
        """The selector events this connection waits for; 0 when it is done."""
        events = 0
        if not self.ended and len(self.outbound) < OUTPUT_LIMIT:
            events |= selectors.EVENT_READ
        if self.outbound:
            events |= selectors.EVENT_WRITE
        return events


class Server:
    """All listeners and connections, in one thread."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.selector = selectors.DefaultSelector()
        self.listeners: dict[socket.socket, bool] = {}  # listener -> it speaks first
        self.connections: set[Connection] = set()
        self.accepting = True

    def listen(self) -> None:
        """Bind every port. Raises OSError naming the port that could not be had."""
        for speaks_first, ports in ((False, self.options.ports), (True, self.options.banner_ports)):
            for port in ports:
                listener = open_listener(port)
                self.listeners[listener] = speaks_first
                self.selector.register(listener, selectors.EVENT_READ)
        ports_by_kind = {
            key: [sock.getsockname()[1] for sock, first in self.listeners.items() if first is kind]
            for key, kind in (("ports", False), ("banner_ports", True))
        }
        write_log(
            {"log": "listening", "workload": self.options.name, "pod": self.options.pod, **ports_by_kind}
        )

    def serve(self) -> NoReturn:
        """Serve until an exception (SystemExit from the signal handler) ends it."""
        while True:
            for key, events in self.selector.select():
                if key.data is None:
                    self.accept(key.fileobj)  # type: ignore[arg-type]  # registered by listen(): a socket
                else:
                    self.advance(key.data, events)

    def accept(self, listener: socket.socket) -> None:
        """Take everything that waits in one listener's backlog."""
        while True:
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Stay alive and leave the rest in the backlog until a connection has ended.
                    print(f"tcp-echo: not accepting for now: {error}", file=sys.stderr, flush=True)
                    self.pause()
                    return
                continue  # the client went away while it waited: ECONNABORTED and its kin
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = listener.getsockname()[1]
            connection = Connection(sock, port=port, peer=peer_name(address))
            if self.listeners[listener]:
                connection.outbound += b"welcome port %d\n" % port
            self.connections.add(connection)
            self.selector.register(sock, connection.wanted_events(), connection)
            self.advance(connection, connection.wanted_events())

    def pause(self) -> None:
        if self.accepting and self.connections:
            self.accepting = False
            for listener in self.listeners:
                self.selector.unregister(listener)

    def resume(self) -> None:
        if not self.accepting:
            self.accepting = True
            for listener in self.listeners:
                self.selector.register(listener, selectors.EVENT_READ)

    def advance(self, connection: Connection, events: int) -> None:
        """Read, answer and write what can be done now; end the connection when nothing is left to do."""
        try:
            if events & selectors.EVENT_READ:
                self.read(connection)
            if connection.outbound:
                sent = connection.sock.send(connection.outbound)
                del connection.outbound[:sent]
        except BlockingIOError:
            pass
        except (
            OSError
        ):  # reset, broken pipe: the client is gone, and its line must be in the log all the same
            self.close(connection)
            return
        wanted = connection.wanted_events()
        if wanted == 0:
            self.close(connection)
        else:
            self.selector.modify(connection.sock, wanted, connection)

    def read(self, connection: Connection) -> None:
        chunk = connection.sock.recv(READ_SIZE)
        if not chunk:
            connection.ended = True
            return
        connection.received += len(chunk)
        connection.inbound += chunk
        *lines, rest = bytes(connection.inbound).split(b"\n")
        for line in lines:
            self.testify(connection, line)
            connection.outbound += b"hello " + line + b"\n"
        connection.inbound = bytearray(rest)
        if len(rest) > LINE_LIMIT:
            connection.ended = True

    def testify(self, connection: Connection, text: bytes) -> None:
        """Write the connection's one log line, unless it has been written."""
        if connection.logged:
            return
        connection.logged = True
        write_log(
            {
                "log": "connection",
                "workload": self.options.name,
                "pod": self.options.pod,
                "port": connection.port,
                "peer": connection.peer,
                "bytes": connection.received,
                "text": text.rstrip(b"\r").decode("utf-8", "backslashreplace")[:LOGGED_TEXT_LIMIT],
                "time": round(time.time(), 6),
            }
        )

    def close(self, connection: Connection) -> None:
        self.testify(connection, bytes(connection.inbound))
        self.selector.unregister(connection.sock)
        connection.sock.close()
        self.connections.discard(connection)
        self.resume()

    def testify_for_the_rest(self) -> None:
        """At the end: open connections are in the log as well."""
        for connection in self.connections:
            self.testify(connection, bytes(connection.inbound))


def open_listener(port: int) -> socket.socket:
    """A non-blocking listener on every address, IPv6 included where the kernel has it."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    listener = socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def peer_name(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """`10.244.0.12:41234` or `[fd00::c]:41234`; IPv4 stays IPv4 on a dual-stack listener."""
    host, port = address[0], address[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write_log(entry: dict[str, object]) -> None:
    """One line, whole and at once. Raises OSError if it cannot be written: testimony is not optional."""
    import json  # late: it takes as long to import as all the rest, and by now the ports are bound

    rest = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    while rest:
        rest = rest[os.write(1, rest) :]


def parse_ports(text: str) -> tuple[int, ...]:
    """`9000,9001` as numbers; the empty text is the empty list; 0 lets the kernel choose."""
    try:
        ports = tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise UsageError(f"ports must be numbers: {text!r}") from None
    if any(not 0 <= port <= 65535 for port in ports):
        raise UsageError(f"ports must be 0..65535: {text!r}")
    return ports


def parse_arguments(arguments: list[str], environment: dict[str, str]) -> Options:
    """Options in the form `--name value` or `--name=value`. Raises UsageError."""
    values = {
        "--name": environment.get("WORKLOAD_NAME") or "tcp-echo",
        "--pod": environment.get("POD_NAME") or socket.gethostname(),
        "--ports": ",".join(map(str, PORTS)),
        "--banner-ports": ",".join(map(str, BANNER_PORTS)),
    }
    rest = list(arguments)
    while rest:
        option, has_value, value = rest.pop(0).partition("=")
        if option not in values:
            raise UsageError(f"unknown option {option!r}")
        if not has_value:
            if not rest:
                raise UsageError(f"{option} needs a value")
            value = rest.pop(0)
        values[option] = value
    return Options(
        name=values["--name"],
        pod=values["--pod"],
        ports=parse_ports(values["--ports"]),
        banner_ports=parse_ports(values["--banner-ports"]),
    )


def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    try:
        options = parse_arguments(arguments, dict(os.environ))
    except UsageError as error:
        print(f"tcp-echo: {error}\n{USAGE}", end="", file=sys.stderr)
        return 2
    # PID 1 of a PID namespace ignores every signal that it has no handler for.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(options)
    try:
        server.listen()
    except OSError as error:
        print(f"tcp-echo: cannot listen: {error}", file=sys.stderr)
        return 1
    try:
        server.serve()
    finally:
        server.testify_for_the_rest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
