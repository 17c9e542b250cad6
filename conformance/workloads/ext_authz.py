"""A sample external authorizer: envoy.service.auth.v3.Authorization over plaintext gRPC.

Its one rule: a connection to port 9001 is denied, every other is admitted. The port is the workload's own, as
the sidecar that asks sees it; whoever asks, and for whom, makes no difference.

For each question one JSON line goes to standard output, before it is answered:

    {"log": "check", "source": "10.244.0.12:41234", "destination": "10.244.0.9:9001",
     "principal": "spiffe://cluster.local/ns/foo/sa/sleep", "allowed": false, "time": 1700000000.123456}

`principal` is empty on plaintext; `time` is in seconds since the epoch. A second port
takes every question, logs it with `"allowed": null` and never answers. One line with `"log": "listening"` for
each port says that it can be asked.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from envoy.config.core.v3.address_pb2 import Address
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.auth.v3.external_auth_pb2_grpc import (
    AuthorizationServicer,
    add_AuthorizationServicer_to_server,
)
from google.rpc.code_pb2 import OK, PERMISSION_DENIED
from google.rpc.status_pb2 import Status

PORT = 9191
SILENT_PORT = 9193
DENIED_PORTS = frozenset({9001})
THREADS = 4
GRACE_SECONDS = 1


def allows(port: int) -> bool:
    """The rule."""
    return port not in DENIED_PORTS


def write_log(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _text(address: Address) -> str:
    return f"{address.socket_address.address}:{address.socket_address.port_value}"


def _log_question(request: CheckRequest, *, allowed: bool | None) -> None:
    asked = request.attributes
    write_log(
        {
            "log": "check",
            "source": _text(asked.source.address),
            "destination": _text(asked.destination.address),
            "principal": asked.source.principal,
            "allowed": allowed,
            "time": round(time.time(), 6),
        }
    )


class Authorizer(AuthorizationServicer):  # type: ignore[misc]  # generated code has no types
    """Answers each Check by the rule."""

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:  # noqa: ARG002 - gRPC's
        allowed = allows(request.attributes.destination.address.socket_address.port_value)
        _log_question(request, allowed=allowed)
        return CheckResponse(status=Status(code=OK if allowed else PERMISSION_DENIED))


class Silent(AuthorizationServicer):  # type: ignore[misc]  # generated code has no types
    """Takes each Check and never answers."""

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:
        _log_question(request, allowed=None)
        gone = threading.Event()
        if context.add_callback(gone.set):
            gone.wait()  # the caller has given up, or the server ends
        return CheckResponse()


def serve(port: int, servicer: AuthorizationServicer | None = None) -> tuple[grpc.Server, int]:
    """A started server and the port it has; 0 chooses one. Answers by the rule, unless another `servicer` is
    given. Raises RuntimeError where the port is taken."""
    # Without it a second server would share a port that is taken.
    options = (("grpc.so_reuseport", 0),)
    server = grpc.server(ThreadPoolExecutor(max_workers=THREADS), options=options)
    add_AuthorizationServicer_to_server(servicer or Authorizer(), server)
    bound = server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    write_log({"log": "listening", "port": bound})
    return server, int(bound)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="ext-authz", description="A sample external authorizer.")
    parser.add_argument("--port", type=int, default=PORT, help=f"where to listen (default: {PORT})")
    silent = f"where to listen and never answer (default: {SILENT_PORT})"
    parser.add_argument("--silent-port", type=int, default=SILENT_PORT, help=silent)
    given = parser.parse_args(arguments)
    try:
        server, _ = serve(given.port)
        silent_server, _ = serve(given.silent_port, Silent())
    except RuntimeError as error:
        print(f"ext-authz: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: server.stop(GRACE_SECONDS))
    server.wait_for_termination()
    silent_server.stop(None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
