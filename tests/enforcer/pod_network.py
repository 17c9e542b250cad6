"""A pod in its own user and network namespaces: capture, Envoy under a control plane, servers, and a client.

Run as a program: `python -m tests.enforcer.pod_network`. It prints one JSON object of what the client saw
and what Envoy logged, step by step. Exit code 75: this kernel gives no such namespaces.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from enforcer import capture
from enforcer.mesh import Exempt
from enforcer.policy import Policy, parse
from enforcer.xds.server import Ads
from enforcer.xds.session import Session
from enforcer.xds.snapshot import Snapshot, build

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
UNAVAILABLE = 75
CLIENT, POD = "10.9.0.1", "10.9.0.2"
ECHO, ECHO_TOO, SERVER_FIRST, EXCLUDED, CLOSED = 9000, 9001, 9003, 9100, 9999
INBOUND, READY = 15006, 15021
NODE = "foo/pod"
PROJECT = Path(__file__).resolve().parents[2]


def enter(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    enter(CLONE_NEWUSER | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def configure(name: str, address: str) -> None:
    with IPRoute() as route:
        index = route.link_lookup(ifname=name)[0]
        route.addr("add", index=index, address=address, prefixlen=24)
        route.link("set", index=index, state="up")
        route.link("set", index=1, state="up")


def connect(port: int) -> str:
    """What a client sees that speaks first (on the server-first port it listens)."""
    try:
        with socket.create_connection((POD, port), timeout=3) as link:
            if port != SERVER_FIRST:
                link.sendall(b"hi\n")
            return link.recv(100).decode() or "closed"
    except ConnectionResetError:
        return "closed"
    except ConnectionRefusedError:
        return "refused"


def run_client(commands: int, answers: int) -> None:
    """The other end of the wire: opens a connection for each port it is told."""
    enter(CLONE_NEWNET)
    os.write(answers, b"x")
    os.read(commands, 1)
    configure("client", CLIENT)
    os.write(answers, b"x")
    while command := os.read(commands, 16):
        os.write(answers, connect(int(command)).encode())
    os._exit(0)


class Client:
    """Forked before any thread is started, because namespaces are a thread's."""

    def __init__(self) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._commands)
            os.close(self._answers)
            run_client(commands, answers)
        os.close(commands)
        os.close(answers)
        os.read(self._answers, 1)
        with IPRoute() as route:
            route.link("add", ifname="pod", kind="veth", peer="client")
            route.link("set", index=route.link_lookup(ifname="client")[0], net_ns_pid=self._pid)
        configure("pod", POD)
        os.write(self._commands, b"x")
        os.read(self._answers, 1)

    async def connect(self, *ports: int) -> list[str]:
        return [await asyncio.to_thread(self._ask, port) for port in ports]

    def _ask(self, port: int) -> str:
        os.write(self._commands, str(port).encode())
        return os.read(self._answers, 1000).decode()

    def close(self) -> None:
        os.close(self._commands)
        os.waitpid(self._pid, 0)


def policy(name: str, action: str, port: int, *, dry_run: bool = False) -> Policy:
    annotations = {"istio.io/dry-run": "true"} if dry_run else {}
    return parse(
        {
            "metadata": {"namespace": "foo", "name": name, "annotations": annotations},
            "spec": {"action": action, "rules": [{"to": [{"operation": {"ports": [str(port)]}}]}]},
        }
    )


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if writer.get_extra_info("sockname")[1] == SERVER_FIRST:
        writer.write(b"welcome\n")
    while line := await reader.readline():
        writer.write(b"hello " + line)
    writer.close()


class ControlPlane:
    """Serves whatever policies it holds; None = it knows the pod not yet."""

    def __init__(self) -> None:
        self.policies: tuple[Policy, ...] | None = None
        self._moved = asyncio.Event()
        self.ads = Ads(resolve=self.resolve, changed=self._moved.set)

    def resolve(self, session: Session) -> Snapshot | None:
        if self.policies is None:
            return None
        return build(self.policies, exempt=Exempt.MARK, ipv6=session.ipv6)

    async def until_connected(self) -> None:
        while NODE not in self.ads.sessions:
            await self._wait()

    async def push(self, *policies: Policy) -> None:
        """Returns when Envoy has acknowledged them."""
        self.policies = policies
        self.ads.refresh()
        session = self.ads.sessions[NODE]
        while not session.in_sync(build(policies, exempt=Exempt.MARK, ipv6=session.ipv6)):
            if session.nack is not None:
                raise RuntimeError(session.nack)
            await self._wait()

    async def _wait(self) -> None:
        self._moved.clear()
        await asyncio.wait_for(self._moved.wait(), 10)


async def play(client: Client) -> dict[str, Any]:
    result: dict[str, Any] = {}
    plane = ControlPlane()
    await plane.ads.start("127.0.0.1:15010")
    for port in (ECHO, ECHO_TOO, SERVER_FIRST, EXCLUDED):
        await asyncio.start_server(serve, "0.0.0.0", port)
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "POD_NAMESPACE": "foo",
        "POD_NAME": "pod",
        # A name, so that the resolver and the hosts file are part of it.
        "XDS_ADDRESS": "localhost:15010",
    }
    envoy = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "enforcer", "sidecar", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert envoy.stdout is not None
    logs = envoy.stdout

    async def access(count: int) -> list[dict[str, Any]]:
        # A line comes when its connection has ended: not always in the order of their beginning.
        lines = [json.loads(await asyncio.wait_for(logs.readline(), 10)) for _ in range(count)]
        return sorted(lines, key=lambda line: int(line["destination_port"]))

    await plane.until_connected()
    result["before"] = await client.connect(ECHO, READY)
    await plane.push()
    while "refused" in (await client.connect(READY)):
        # Workers start right after the ACK; the readiness port tells when.
        await asyncio.sleep(0.005)
    result["open"] = await client.connect(ECHO, ECHO_TOO, SERVER_FIRST, EXCLUDED, INBOUND, CLOSED)
    result["open_log"] = await access(4)
    await plane.push(policy("p", "ALLOW", ECHO))
    result["allow"] = await client.connect(ECHO, ECHO_TOO)
    result["allow_log"] = await access(2)
    await plane.push(
        policy("try", "ALLOW", ECHO, dry_run=True),
        policy("shut", "DENY", ECHO_TOO),
        policy("would", "DENY", ECHO, dry_run=True),
    )
    result["dry_run"] = await client.connect(ECHO, ECHO_TOO)
    result["dry_run_log"] = await access(2)
    await plane.ads.stop()
    result["orphaned"] = await client.connect(ECHO, ECHO_TOO)
    envoy.send_signal(signal.SIGKILL)
    await envoy.wait()
    result["dead"] = await client.connect(ECHO)
    return result


def main() -> int:
    try:
        enter_namespaces()
    except OSError as error:
        print(f"no user or network namespaces: {error}", file=sys.stderr)
        return UNAVAILABLE
    client = Client()
    capture.install(capture.Capture(exclude_inbound=(EXCLUDED,)))
    # Twice: a restarted init container must not double the rules.
    capture.install(capture.Capture(exclude_inbound=(EXCLUDED,)))
    result = asyncio.run(play(client))
    client.close()
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
