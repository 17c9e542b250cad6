"""A tcp-echo that dies after the baseline: its process lives on, but nobody listens any more.

Through a sidecar that looks like a denial: the client's connection is accepted, then closed without a byte.
"""

import signal
import sys
from collections import Counter
from typing import NoReturn

from conformance.workloads import tcp_echo

FATAL = 2  # connections of other pods to one port: the first is the baseline's


class DyingServer(tcp_echo.Server):
    def serve(self) -> NoReturn:
        while max(foreign.values(), default=0) < FATAL:
            for key, events in self.selector.select():
                if key.data is None:
                    self.accept(key.fileobj)  # type: ignore[arg-type]  # registered by listen(): a socket
                else:
                    self.advance(key.data, events)
        for sock in (*self.listeners, *(connection.sock for connection in self.connections)):
            sock.close()
        while True:
            signal.pause()


foreign: Counter[int] = Counter()


class CountedConnection(tcp_echo.Connection):
    def __init__(self, *arguments: object, port: int, peer: str) -> None:
        super().__init__(*arguments, port=port, peer=peer)  # type: ignore[arg-type]  # the socket, as it is
        if not peer.startswith("127."):
            foreign[port] += 1


if __name__ == "__main__":
    tcp_echo.Server = DyingServer  # type: ignore[misc]  # the seam
    tcp_echo.Connection = CountedConnection  # type: ignore[assignment,misc]
    sys.exit(tcp_echo.main(sys.argv[1:]))
