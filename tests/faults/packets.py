"""Packets of one pod dropped, or delayed: run inside its network namespace, until standard input ends.

    python -m tests.faults.packets PID drop PORT...
    python -m tests.faults.packets PID delay SECONDS PORT...
    python -m tests.faults.packets PID divert ADDRESS PORT...

The kernel need not have netem: a small TCP proxy in the path holds back every piece, in both directions.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
TABLE = "faults"
DROP = 0
MARK = 0x77  # of the proxy's own connections
ORIGINAL_DESTINATION = 80
SECONDS = 30.0


@contextmanager
def meddling(pid: int, *words: str) -> Iterator[None]:
    """The program beside a pod's process, from when it is in force to when it is undone."""
    command = [sys.executable, "-m", "tests.faults.packets", str(pid), *words]
    with subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            assert running.stdout.readline() == "ready\n", f"{' '.join(words)} was refused"
            yield
        finally:
            running.stdin.close()
            running.wait(SECONDS)


def main(arguments: Sequence[str]) -> int:
    from conformance.cluster.embedded.node import linux

    pid, what, *rest = arguments
    # A process's own threads would keep it out of a user namespace: nothing is imported before.
    for name, flag in (("user", linux.CLONE_NEWUSER), ("net", linux.CLONE_NEWNET)):
        theirs = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        if os.fstat(theirs).st_ino != Path(f"/proc/self/ns/{name}").stat().st_ino:
            linux.setns(theirs, flag)
        os.close(theirs)
    match what:
        case "drop":
            with _table(filter_rules=[_dport(int(port)) + _verdict(DROP) for port in rest]):
                _wait()
        case "delay":
            seconds, *ports = rest
            _relay([int(port) for port in ports], seconds=float(seconds))
        case "divert":
            address, *ports = rest
            _relay([int(port) for port in ports], address=address)
    return 0


def _wait() -> None:
    print("ready", flush=True)
    sys.stdin.read()


@contextmanager
def _table(*, filter_rules: Sequence[Any] = (), nat_rules: Sequence[Any] = ()) -> Iterator[None]:
    """A table of our own: rules for what the pod sends."""
    from pyroute2.nftables.main import NFTables

    with NFTables(nfgen_family=socket.AF_INET) as nft:
        nft.table("add", name=TABLE)
        try:
            for name, kind, priority, rules in (
                ("drop", "filter", 0, filter_rules),
                ("send", "nat", -150, nat_rules),
            ):
                if rules:
                    nft.chain(
                        "add", table=TABLE, name=name, hook="output", type=kind, policy=1, priority=priority
                    )
                for rule in rules:
                    nft.rule("add", table=TABLE, chain=name, expressions=(rule,))
            yield
        finally:
            nft.table("del", name=TABLE)


def _dport(port: int) -> list[Any]:
    return _compare("payload", {"dreg": 1, "base": 2, "offset": 2, "len": 2}, struct.pack("!H", port))


def _compare(what: str, fields: dict[str, Any], wanted: bytes, *, operation: int = 0) -> list[Any]:
    from pyroute2.nftables.expressions import genex

    value = {"attrs": [("NFTA_DATA_VALUE", wanted)]}
    return [genex(what, fields), genex("cmp", {"sreg": 1, "op": operation, "data": value})]


def _verdict(code: int) -> list[Any]:
    from pyroute2.nftables.expressions import verdict

    return list(verdict(code))


def _redirect(to: int) -> list[Any]:
    from pyroute2.nftables.expressions import genex

    value = {"attrs": [("NFTA_DATA_VALUE", struct.pack("!H", to))]}
    return [
        genex("immediate", {"dreg": 1, "data": value}),
        genex("redir", {"reg_proto_min": 1}),
    ]


def _not_ours() -> list[Any]:
    return _compare("meta", {"dreg": 1, "key": 3}, struct.pack("I", MARK), operation=1)


def _relay(ports: Sequence[int], *, seconds: float = 0.0, address: str = "") -> None:
    """Connections to the ports through a proxy: later, or to another address than asked for."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    here = listener.getsockname()[1]
    rules = [_not_ours() + _dport(port) + _redirect(here) for port in ports]
    # pyroute2 has an event loop of its own in this thread; the proxy has its own in another.
    threading.Thread(target=lambda: asyncio.run(_proxy(listener, seconds, address)), daemon=True).start()
    with _table(nat_rules=rules):
        _wait()


async def _proxy(listener: socket.socket, seconds: float, instead: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket").getsockopt(socket.SOL_IP, ORIGINAL_DESTINATION, 16)
        port, address = struct.unpack("!2xH4s8x", raw)
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        link.setblocking(False)
        await asyncio.get_running_loop().sock_connect(link, (instead or socket.inet_ntoa(address), port))
        far_reader, far_writer = await asyncio.open_connection(sock=link)
        await asyncio.gather(_pipe(reader, far_writer, seconds), _pipe(far_reader, writer, seconds))

    async with await asyncio.start_server(serve, sock=listener) as server:
        await server.serve_forever()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Hands on each piece, and then the end, `seconds` late."""
    with suppress(OSError):
        while data := await reader.read(65536):
            await asyncio.sleep(seconds)
            writer.write(data)
            await writer.drain()
    await asyncio.sleep(seconds)
    with suppress(OSError):
        writer.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
