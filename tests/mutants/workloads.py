"""Mutants of the server behind the sidecar."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

from conformance.workloads import tcp_echo
from tests.mutants.seams import around, mutant

FATAL = 8  # connections of other pods: more than the baseline


def is_foreign(connection: Any) -> bool:
    """Whether it comes from another pod."""
    return not connection.peer.startswith("127.")


@mutant
def echo_says_something_else() -> None:
    """After the first connection to each port the server answers another text than it promises."""
    served: Counter[int] = Counter()

    @around(tcp_echo.Server, "read")
    def _read(original: Any, server: Any, connection: Any) -> None:
        original(server, connection)
        if is_foreign(connection) and served[connection.port]:
            connection.outbound = bytearray(bytes(connection.outbound).replace(b"hello ", b"hullo "))

    @around(tcp_echo.Server, "close")
    def _close(original: Any, server: Any, connection: Any) -> None:
        original(server, connection)
        served[connection.port] += is_foreign(connection)


@mutant
def echo_keeps_no_log() -> None:
    """The server answers other pods and does not testify to it."""

    @around(tcp_echo.Server, "testify")
    def _testify(original: Any, server: Any, connection: Any, text: bytes) -> None:
        if is_foreign(connection):
            connection.logged = True
        else:
            original(server, connection, text)


@mutant
def echo_starts_anew() -> None:
    """The server ends between two sweeps and is started anew, which no connection shows."""
    served: Counter[int] = Counter()

    @around(tcp_echo.Server, "close")
    def _close(original: Any, server: Any, connection: Any) -> None:
        original(server, connection)
        foreign = is_foreign(connection)
        served[foreign] += 1
        # What comes from inside the pod is the end of a sweep.
        if not foreign and served[True] >= FATAL:
            os.kill(os.getpid(), signal.SIGTERM)
