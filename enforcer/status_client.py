"""`python3 -m enforcer status [--follow]`: run by exec in the controller's pod. Standard library, plain
sockets."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Iterator, Sequence

from enforcer import ports
from enforcer.errors import EnforcerError

CONNECT_SECONDS = 5.0


class StatusError(EnforcerError):
    """The controller did not answer."""


def read_lines(path: str, *, port: int = ports.STATUS) -> Iterator[bytes]:
    """The lines of the answer, as they come. Raises StatusError."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_SECONDS) as link:
            # HTTP/1.0: the body comes plain and ends with the connection.
            link.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            link.settimeout(None)
            with link.makefile("rb") as answer:
                status = answer.readline().split(None, 2)
                if len(status) < 2 or status[1] != b"200":
                    raise StatusError(
                        f"the controller answered {b' '.join(status).decode(errors='replace')!r}"
                    )
                while answer.readline().strip():
                    pass
                yield from answer
    except OSError as error:
        raise StatusError(f"no controller at 127.0.0.1:{port}: {error}") from error


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="enforcer status", description="The controller's status, as JSON lines."
    )
    parser.add_argument("--follow", action="store_true", help="one line at each change, until interrupted")
    given = parser.parse_args(arguments)
    try:
        for line in read_lines("/follow" if given.follow else "/status"):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0
