"""The client that runs inside a workload, started by `session.CLIENT_COMMAND`. Standard library only.

Standard input: one JSON request per line, {"id": 1, "probes": [{"id": "a", "host": "tcp-echo", "port": 9000,
"line": "port 9000 n1f", "answer": "hello port 9000 n1f", "timeout": 2.0}, ...]}. Standard output: one JSON
line per request, {"id": 1, "results": [{"id": "a", "kind": "answered", ...}, ...]}. The first line, before
any request, is {"ready": <process id>}. All probes of a request run at once.

Each probe connects, sends its line at once, then reads until its full answer, FIN, RST or the deadline.

{"id": 2, "watch": {"probes": [...], "nonce": "n12345678", "every": 0.05}} has no answer: the probes are made
again and again, beside other requests, until {"id": 3, "unwatch": true}, which is answered by {"id": 3,
"rounds": 7, "lost": "", "seen": [...]}: what was seen, each distinct result once, with `count`, `at_ms` and
`last_ms` (milliseconds from the watch's first probe on), and why nothing is known. The n-th probe of a watch
has the nonce and n in 8 hexadecimal digits; `{nonce}` in `line` and `answer` stands for it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import sys
import threading
import time
from typing import Any

LIMIT = 65536  # bytes kept of what came back
SLICE = 0.02  # seconds after which a watch looks whether it is to end
GRACE = 0.25  # seconds that a watch's last probes have to end by themselves
DISTINCT = 100  # results that a watch keeps


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


def run(specs: list[dict[str, Any]], ending: threading.Event | None = None) -> list[Probe]:
    """All probes, over, in the order given. `ending`: once set, what is under way is soon given up."""
    probes = [Probe(spec) for spec in specs]
    patience = GRACE
    with selectors.DefaultSelector() as selector:
        for probe in probes:
            probe.open()
            if probe.result is None:
                selector.register(probe.sock, probe.wants(), probe)
        while selector.get_map():
            nearest = min(key.data.deadline for key in selector.get_map().values()) - time.monotonic()
            for key, events in selector.select(max(nearest if ending is None else min(nearest, SLICE), 0)):
                advance(selector, key.data, key.fd, events)
            now = time.monotonic()
            if ending is not None and ending.is_set():
                if patience == GRACE:
                    patience = now + GRACE
                elif now >= patience:
                    for key in list(selector.get_map().values()):
                        selector.unregister(key.fd)
                        key.data.end("unknown", why="given up: the watch ended first")
                    break
            for key in list(selector.get_map().values()):
                if key.data.deadline <= now:
                    selector.unregister(key.fd)
                    key.data.expire()
    return probes


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


class Watch:
    """Probes the same paths again and again, in a thread of its own, until `end`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.rounds = 0
        self.seen: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        begun = time.monotonic()
        over = False
        while not over:
            specs = [self.numbered(index) for index in range(len(self.spec["probes"]))]
            for probe in run(specs, self.ending):
                self.note(probe, begun)
            self.rounds += 1
            over = self.ending.wait(self.spec["every"])

    def numbered(self, index: int) -> dict[str, Any]:
        spec: dict[str, Any] = self.spec["probes"][index]
        nonce = f"{self.spec['nonce']}{self.rounds * len(self.spec['probes']) + index:08x}"
        return spec | {name: spec[name].replace("{nonce}", nonce) for name in ("line", "answer")}

    def note(self, probe: Probe, begun: float) -> None:
        result = probe.result or {}
        at = round((probe.start - begun) * 1000, 3)
        key = tuple(result.get(name) for name in ("id", "kind", "received", "ended_by", "why"))
        if key not in self.seen and len(self.seen) >= DISTINCT:
            return
        entry = self.seen.setdefault(key, {**result, "at_ms": at, "count": 0})
        entry["count"] += 1
        entry["last_ms"] = at

    def end(self) -> dict[str, Any]:
        lost = "" if self.thread.is_alive() else "the watch ended by itself"
        self.ending.set()
        self.thread.join()
        return {"rounds": self.rounds, "seen": list(self.seen.values()), "lost": lost}


def main() -> None:
    print(json.dumps({"ready": os.getpid()}), flush=True)
    watch: Watch | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "watch" in request:
            watch = Watch(request["watch"])
            continue
        if "unwatch" in request:
            answer, watch = watch.end() if watch else {"rounds": 0, "seen": [], "lost": "none was on"}, None
        else:
            answer = {"results": [probe.result for probe in run(request["probes"])]}
        print(json.dumps({"id": request["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
