"""Mutants of the server behind the sidecar."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

from conformance.workloads import tcp_echo
from tests.mutants.seams import around, mutant

FATAL = 8  # connections of other pods: more than the baseline


@mutant
def echo_says_something_else() -> None:
    """The server answers another text than it promises."""

    @around(tcp_echo.Server, "read")
    def _read(original: Any, server: Any, connection: Any) -> None:
        original(server, connection)
        connection.outbound = bytearray(bytes(connection.outbound).replace(b"hello ", b"hullo "))


@mutant
def echo_keeps_no_log() -> None:
    """The server answers and does not testify."""

    @around(tcp_echo.Server, "testify")
    def _testify(_original: Any, _server: Any, connection: Any, _text: bytes) -> None:
        connection.logged = True


@mutant
def echo_starts_anew() -> None:
    """The server ends between two sweeps and is started anew, which no connection shows."""
    served: Counter[int] = Counter()

    @around(tcp_echo.Server, "close")
    def _close(original: Any, server: Any, connection: Any) -> None:
        original(server, connection)
        local = connection.peer.startswith("127.")
        served[local] += 1
        # What comes from inside the pod is the end of a sweep.
        if local and served[False] >= FATAL:
            os.kill(os.getpid(), signal.SIGTERM)
