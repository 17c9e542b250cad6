"""The client that runs inside a workload, started by `session.CLIENT_COMMAND`. Standard library only.

Standard input: one JSON request per line, {"id": 1, "probes": [{"id": "a", "host": "tcp-echo", "port": 9000,
"line": "port 9000 n1f", "answer": "hello port 9000 n1f", "timeout": 2.0}, ...]}. Standard output: one JSON
line per request, {"id": 1, "results": [{"id": "a", "kind": "answered", ...}, ...]}. The first line, before
any request, is {"ready": <process id>}. All probes of a request run at once.

Each probe connects, sends its line at once, then reads until its full answer, FIN, RST or the deadline.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import sys
import time
from typing import Any

LIMIT = 65536  # bytes kept of what came back


class Probe:
    """One connection and what has been seen of it so far. `result` is set when it is over."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.line = spec["line"].encode() + b"\n"
        self.answer = spec["answer"].encode()
        self.unsent = self.line
        self.received = b""
        self.result: dict[str, Any] | None = None
        self.address = ""
        self.connected: float | None = None
        self.first_byte: float | None = None
        self.sock = socket.socket()  # replaced by open(), which knows the family
        self.start_clock()

    def start_clock(self) -> None:
        self.opened_at, self.start = time.time(), time.monotonic()
        self.deadline = self.start + self.spec["timeout"]

    def open(self) -> None:
        host, port = self.spec["host"], self.spec["port"]
        try:
            # Numeric addresses and the hosts file; a name that is not there says nothing about the mesh.
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            self.end("unknown", why=f"the name {host} does not resolve: {error}")
            return
        name, number = str(address[0]), int(address[1])
        self.address = f"{name}:{number}"
        self.sock.close()
        try:
            self.sock = socket.socket(family, kind, proto)
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.start_clock()  # at the connect, not at the lookup of the name
            code = self.sock.connect_ex(address)
        except OSError as error:
            self.end("unknown", why=f"no socket: {error}")
            return
        if code not in (0, errno.EINPROGRESS):
            self.fail_to_connect(code)

    def fail_to_connect(self, code: int) -> None:
        if code == errno.ECONNREFUSED:
            self.end("refused", ended_by="rst")
        elif code == errno.ECONNRESET:
            self.end("reset", ended_by="rst")
        elif code == errno.ETIMEDOUT:
            self.end("timed_out", why="no answer to the connect")
        else:
            self.end("unknown", why=f"connect: {os.strerror(code)}")

    def on_writable(self) -> None:
        if self.connected is None:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self.fail_to_connect(code)
                return
            self.connected = time.monotonic()
        try:
            sent = self.sock.send(self.unsent)
            self.unsent = self.unsent[sent:]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError) as error:
            # A reset is told once only, so it is taken here; after a FIN, reading tells.
            if isinstance(error, ConnectionResetError):
                self.end("banner" if self.received else "reset", ended_by="rst")
        except OSError as error:
            self.end("unknown", why=f"send: {error}")

    def on_readable(self) -> None:
        try:
            data = self.sock.recv(LIMIT)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.end("banner" if self.received else "reset", ended_by="rst")
            return
        except OSError as error:
            self.end("unknown", why=f"receive: {error}")
            return
        if not data:
            self.end("banner" if self.received else "closed", ended_by="fin")
            return
        if self.first_byte is None:
            self.first_byte = time.monotonic()
        self.received = (self.received + data)[-LIMIT:]
        if self.answer in self.received.split(b"\n")[:-1]:
            self.end("answered", ended_by="us")

    def expire(self) -> None:
        if self.connected is None:
            self.end("timed_out", why="no answer to the connect", ended_by="deadline")
        elif self.received:
            self.end("banner", why="no further answer", ended_by="deadline")
        else:
            self.end("timed_out", why="connected, but neither an answer nor an end", ended_by="deadline")

    def end(self, kind: str, *, why: str = "", ended_by: str = "") -> None:
        def since(moment: float | None) -> float | None:
            return None if moment is None else round((moment - self.start) * 1000, 3)

        self.result = {
            "id": self.spec["id"],
            "kind": kind,
            "why": why,
            "received": self.received.decode("utf-8", "replace"),
            "sent_bytes": len(self.line) - len(self.unsent),
            "ended_by": ended_by,
            "address": self.address,
            "opened_at": self.opened_at,
            "connect_ms": since(self.connected),
            "first_byte_ms": since(self.first_byte),
            "end_ms": since(time.monotonic()),
        }
        with contextlib.suppress(OSError):
            self.sock.close()

    def wants(self) -> int:
        if self.connected is None or self.unsent:
            return selectors.EVENT_READ | selectors.EVENT_WRITE
        return selectors.EVENT_READ


def run(specs: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """The results of all probes, in the order given."""
    probes = [Probe(spec) for spec in specs]
    with selectors.DefaultSelector() as selector:
        for probe in probes:
            probe.open()
            if probe.result is None:
                selector.register(probe.sock, probe.wants(), probe)
        while selector.get_map():
            nearest = min(key.data.deadline for key in selector.get_map().values())
            for key, events in selector.select(max(nearest - time.monotonic(), 0)):
                advance(selector, key.data, key.fd, events)
            now = time.monotonic()
            for key in list(selector.get_map().values()):
                if key.data.deadline <= now:
                    selector.unregister(key.fd)
                    key.data.expire()
    return [probe.result for probe in probes]


def advance(selector: selectors.BaseSelector, probe: Probe, descriptor: int, events: int) -> None:
    before = probe.wants()
    if events & selectors.EVENT_WRITE:
        probe.on_writable()
    if probe.result is None and probe.connected is not None and events & selectors.EVENT_READ:
        probe.on_readable()
    if probe.result is not None:
        selector.unregister(descriptor)  # by its number: the socket is closed already
    elif probe.wants() != before:
        selector.modify(descriptor, probe.wants(), probe)


def main() -> None:
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"id": request["id"], "results": run(request["probes"])}), flush=True)


if __name__ == "__main__":
    main()
