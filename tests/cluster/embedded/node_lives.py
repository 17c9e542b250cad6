"""Control planes that live in different ways; each runs inside a node of its own."""

import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.cluster.embedded.node.node import NodeSockets, report_ready

KUBECONFIG = "/run/authz-node/kubeconfig"


def stay(sockets: NodeSockets, _runtime: socket.socket, options: Mapping[str, Any]) -> None:
    Path(KUBECONFIG).write_text(options.get("text", ""))
    report_ready(sockets, kubeconfig=KUBECONFIG)
    signal.pause()


def talk(sockets: NodeSockets, runtime: socket.socket, options: Mapping[str, Any]) -> None:
    for number in range(options["lines"]):
        print(f"a rather long and otherwise quite uninteresting line {number}")
    print(end="", flush=True)
    stay(sockets, runtime, options)


def fail(_sockets: NodeSockets, _runtime: socket.socket, _options: Mapping[str, Any]) -> None:
    raise ValueError("on purpose")


def leave(_sockets: NodeSockets, _runtime: socket.socket, _options: Mapping[str, Any]) -> int:
    return 3


def hang(_sockets: NodeSockets, _runtime: socket.socket, _options: Mapping[str, Any]) -> None:
    signal.pause()
