"""A control plane that does what a test asks: each line on its host socket names a coroutine to run there.

`python -m tests.cluster.embedded.node_harness` starts such a node, prints its port, its process id and why it
has no IPv6, and lives
until its standard input ends.
"""

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.cluster.embedded.node.images import PROJECT
from conformance.cluster.embedded.node.launcher import start_node
from conformance.cluster.embedded.node.node import NodeSockets, report_ready
from conformance.cluster.embedded.node.runtime import ContainerSpec, Mount, Process, Runtime

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONDONTWRITEBYTECODE": "1"}
# The interpreter that an ordinary user can run, too.
PYTHON = "/usr/bin/python3"


def main(sockets: NodeSockets, runtime: socket.socket, _options: Mapping[str, Any]) -> int:
    asyncio.run(_serve(sockets, runtime))
    return 0


async def _serve(sockets: NodeSockets, control: socket.socket) -> None:
    runtime = Runtime(control)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        module, function, arguments = json.loads(await reader.readline())
        try:
            result = await getattr(importlib.import_module(module), function)(runtime, **arguments)
            reply = {"result": result}
        except Exception as error:  # noqa: BLE001 - the test that asked shall see it
            reply = {"error": f"{type(error).__name__}: {error}"}
        writer.write(json.dumps(reply).encode())
        writer.close()

    server = await asyncio.start_server(answer, sock=sockets.host)

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"the API server greets {writer.get_extra_info('peername')[0]}".encode())
        writer.close()

    await asyncio.start_server(greet, sock=sockets.node)
    report_ready(sockets, kubeconfig="/run/authz-node/kubeconfig")
    await server.serve_forever()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    port: int
    pid: int
    no_ipv6: str
    """Why pods have no IPv6 address here; empty: they have."""
    starter: "subprocess.Popen[str]"

    def run(self, coroutine_function: Any, **arguments: Any) -> Any:
        """Runs the function in the node's control plane; its result, or its error as a RuntimeError."""
        call = [coroutine_function.__module__, coroutine_function.__name__, arguments]
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(json.dumps(call).encode() + b"\n")
            reply = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]

    def stop(self) -> None:
        """Lets the starter end, and the node with it."""
        self.starter.communicate(timeout=60)


def start(*, user: int | None = None) -> Node:
    """A node of a starter process of its own, which runs as that user."""
    starter = subprocess.Popen(
        [PYTHON if user is not None else sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert starter.stdout is not None
    line = starter.stdout.readline()
    assert line, "the node did not start"
    port, pid, no_ipv6 = json.loads(line)
    return Node(port=port, pid=pid, no_ipv6=no_ipv6, starter=starter)


# What the tests' coroutines say often --------------------------------------------------------------------


def container(name: str, sandbox: str, *argv: str, **more: Any) -> ContainerSpec:
    values: dict[str, Any] = {
        "env": ENV,
        "cwd": "/",
        "mounts": (),
        "capabilities": frozenset(),
        "uid": None,
        **more,
    }
    values["mounts"] = tuple(Mount(**mount) for mount in values["mounts"])
    return ContainerSpec(id=name, sandbox=sandbox, argv=argv, **values)


async def outcome(process: Process, *, send: bytes | None = None) -> list[Any]:
    """[exit code, standard output, standard error] once it has ended."""
    if send is not None and process.stdin is not None:
        process.stdin.write(send)
        process.stdin.close()
    out, err, code = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
    return [code, out.decode(), err.decode()]


if __name__ == "__main__":
    with start_node(entry="tests.cluster.embedded.node_harness:main") as running:
        print(json.dumps([running.port, running.pid, running.ready["no_ipv6"]]), flush=True)
        sys.stdin.read()
