"""Enough of netcat for probes and for the walkthrough, where an image or a host has none.

Started as `python -I -S nc.py`. Behaves as OpenBSD's nc with -N: when standard input ends, the write side of
the connection is closed, and reading goes on until the other end closes. So the walkthrough's pipeline
`echo "port 9000" | nc tcp-echo 9000` ends by itself, answered or refused, and never before a whole answer.

Exit codes as OpenBSD's: 0 when there was a connection, however it ended; 1 when there was none, or bad usage.
Unlike OpenBSD's, the reason for a 1 is always printed to standard error.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

USAGE = """\
usage: nc [-46Nndv] [-w SECONDS] HOST PORT      connect; relay standard input and output
       nc -z [-46nv] [-w SECONDS] HOST PORT     connect only
       nc -l [-46dv] [-w SECONDS] [HOST] PORT   take one connection; relay
  -w SECONDS   give up connecting, or when nothing has moved, after so long (default: never)
  -N           close the write side when standard input ends (always so here)
  -n           HOST is an address: ask no name service
  -d           do not read standard input
"""
READ_SIZE = 64 * 1024
FLAGS = "46Nnvzld"

Address = tuple[int, tuple[str, int] | tuple[str, int, int, int]]  # family, what connect() takes


class NetcatError(Exception):
    """No connection, or a command line that cannot be understood; the text is for standard error."""


class Options:
    """What the command line says. `timeout` is in seconds; None waits for ever."""

    __slots__ = ("flags", "host", "port", "timeout")

    def __init__(self, *, flags: frozenset[str], host: str, port: int, timeout: float | None) -> None:
        self.flags = flags
        self.host = host
        self.port = port
        self.timeout = timeout


def parse_arguments(arguments: list[str]) -> Options:
    """Flags may be bundled (`-zw1`). Raises NetcatError."""
    flags: set[str] = set()
    operands: list[str] = []
    timeout: float | None = None
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            operands += rest
            break
        if not argument.startswith("-") or argument == "-":
            operands.append(argument)
            continue
        letters = argument[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "w":
                if not (value := letters or (rest.pop(0) if rest else "")):
                    raise NetcatError(f"-w needs a number of seconds\n{USAGE.rstrip()}")
                timeout, letters = parse_seconds(value), ""
            elif letter in FLAGS:
                flags.add(letter)
            else:
                raise NetcatError(f"unknown option -{letter}\n{USAGE.rstrip()}")
    if "l" in flags and len(operands) == 1:
        operands.insert(0, "")
    if len(operands) != 2:
        raise NetcatError(f"a host and a port are needed\n{USAGE.rstrip()}")
    if {"4", "6"} <= flags or {"l", "z"} <= flags:
        raise NetcatError("-4 with -6, and -l with -z, cannot be combined")
    return Options(flags=frozenset(flags), host=operands[0], port=parse_port(operands[1]), timeout=timeout)


def parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise NetcatError(f"timeout invalid: {text}")
    return seconds


def parse_port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:
        raise NetcatError(f"port number invalid: {text}")
    return port


def resolve(options: Options) -> list[Address]:
    """The addresses of HOST, in the resolver's order. Raises NetcatError."""
    family = {"4": socket.AF_INET, "6": socket.AF_INET6}.get(
        "".join(options.flags & {"4", "6"}), socket.AF_UNSPEC
    )
    hints = socket.AI_NUMERICHOST if "n" in options.flags else 0
    if "l" in options.flags:
        hints |= socket.AI_PASSIVE
    try:
        # Bytes, because a text makes Python import its whole IDNA codec first.
        found = socket.getaddrinfo(
            os.fsencode(options.host) or None, options.port, family, socket.SOCK_STREAM, 0, hints
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise NetcatError(f'getaddrinfo for host "{options.host}" port {options.port}: {reason}') from None
    return [(entry[0], entry[4]) for entry in found]  # type: ignore[misc]  # stream addresses of IPv4 and IPv6


def connect(options: Options) -> socket.socket:
    """The first address that answers. Raises NetcatError naming why each of them did not."""
    failures = []
    for family, address in resolve(options):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(options.timeout)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            reason = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
            failures.append(
                f"connect to {options.host} ({address[0]}) port {options.port} (tcp) failed: {reason}"
            )
            continue
        if "v" in options.flags:
            print(f"Connection to {options.host} {options.port} port [tcp] succeeded!", file=sys.stderr)
        return sock
    raise NetcatError("\nnc: ".join(failures))


def accept(options: Options) -> socket.socket:
    """The first client. Raises NetcatError when the port cannot be had or nobody comes in time."""
    family, address = resolve(options)[0]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(options.timeout)
        try:
            listener.bind(address)
            listener.listen(1)
            if "v" in options.flags:
                print(f"Listening on {address[0]} {options.port}", file=sys.stderr, flush=True)
            sock, peer = listener.accept()
        except OSError as error:
            reason = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise NetcatError(f"listen on port {options.port}: {reason}") from None
    if "v" in options.flags:
        print(f"Connection received on {peer[0]} {peer[1]}", file=sys.stderr)
    return sock


def relay(sock: socket.socket, *, timeout: float | None, read_stdin: bool) -> None:
    """Standard input to the socket, the socket to standard output, until the other end closes or resets.

    Returns after `timeout` seconds without movement, as OpenBSD's nc does. Never writes half: what the
    socket does not take yet waits, and standard input with it.
    """
    sock.setblocking(False)
    pending = b""
    reading_stdin = read_stdin
    while True:
        readers: list[int] = [sock.fileno()]
        if reading_stdin and not pending:
            readers.append(0)
        readable, writable, _ = select.select(readers, [sock.fileno()] if pending else [], [], timeout)
        if not readable and not writable:
            return
        if sock.fileno() in readable:
            try:
                incoming = sock.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except OSError:  # reset by the other end: over, as if it had closed
                return
            if not incoming:
                return
            write_all(incoming)
        try:
            if pending and writable:
                pending = pending[sock.send(pending) :]
            elif 0 in readable:
                pending = os.read(0, READ_SIZE)
                if not pending:
                    reading_stdin = False
                    sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            continue
        except OSError:
            # The other end no longer listens; what it has already sent is still to be read.
            pending, reading_stdin = b"", False


def write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main(arguments: list[str]) -> int:
    if arguments == ["-h"]:
        print(USAGE, end="")
        return 0
    # As PID 1 of a PID namespace the default action of a signal does not apply.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: os._exit(128 + received))
    try:
        options = parse_arguments(arguments)
        sock = accept(options) if "l" in options.flags else connect(options)
    except NetcatError as error:
        print(f"nc: {error}", file=sys.stderr)
        return 1
    with sock:
        if "z" not in options.flags:
            try:
                relay(sock, timeout=options.timeout, read_stdin="d" not in options.flags)
            except BrokenPipeError:
                return 1  # nobody reads our standard output any more
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
