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
import tempfile
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from enforcer import capture
from enforcer.certificate import issue_server, server_context
from enforcer.destinations import Destination
from enforcer.identity import Identity
from enforcer.peer_authentication import Mode, Modes
from enforcer.policy import Policy, parse
from enforcer.xds import secrets
from enforcer.xds.server import Ads
from enforcer.xds.session import Session
from enforcer.xds.snapshot import Snapshot
from tests.enforcer import callers, tls_peer

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
UNAVAILABLE = 75
CLIENT, POD = "10.9.0.1", "10.9.0.2"
ECHO, ECHO_TOO, SERVER_FIRST, EXCLUDED, CLOSED = 9000, 9001, 9003, 9100, 9999
INBOUND, READY = 15006, 15021
OWN_TLS, BEYOND = 9443, 9444
KINDS = ("own", "foreign", "stranger", "none")
NODE = "foo/pod"
LIFETIME = timedelta(seconds=6)  # renewed after half of it; a busy machine is late
DESTINATIONS = (
    Destination(
        host="beyond.foo.svc.cluster.local",
        addresses=(CLIENT,),
        port=BEYOND,
        identities=(Identity(namespace="foo", service_account="sleep"),),
    ),
)
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
        with socket.create_connection((POD, port), timeout=30) as link:
            if port != SERVER_FIRST:
                link.sendall(b"hi there\n")
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
    server = tls_peer.Server((CLIENT, BEYOND))
    while command := os.read(commands, 100):
        os.write(answers, answer(command.decode(), server).encode())
    os._exit(0)


def answer(command: str, server: tls_peer.Server) -> str:
    """PORT | tls KIND PORT | own-tls PORT | hold PORT | seen"""
    match command.split():
        case ["tls", kind, port]:
            return tls_peer.ask((POD, int(port)), tls_peer.client(kind))
        case ["own-tls", port]:
            return tls_peer.ask((POD, int(port)), tls_peer.client("none", alpn=None))
        case ["hold", port]:
            return json.dumps(asdict(tls_peer.hold((POD, int(port)), serials=3)))
        case ["seen"]:
            return json.dumps([asdict(shown) for shown in server.seen])
        case _:
            return connect(int(command))


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
        return [await self.ask(str(port)) for port in ports]

    async def ask(self, command: str) -> str:
        return await asyncio.to_thread(self._ask, command)

    def _ask(self, command: str) -> str:
        os.write(self._commands, command.encode())
        return os.read(self._answers, 65536).decode()

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


accepted: list[int] = []
"""The port of every connection that reached the application."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    accepted.append(writer.get_extra_info("sockname")[1])
    if writer.get_extra_info("sockname")[1] == SERVER_FIRST:
        writer.write(b"welcome\n")
    while line := await reader.readline():
        writer.write(b"hello " + line)
    writer.close()


class ControlPlane:
    """Serves whatever policies and mode it holds; None = it knows the pod not yet."""

    def __init__(self) -> None:
        self.policies: tuple[Policy, ...] | None = None
        self.mode = Mode.PERMISSIVE
        self._moved = asyncio.Event()
        self.ads = Ads(
            authenticate=callers.authenticate,
            resolve=self.resolve,
            issue=lambda session: secrets.issue(
                callers.AUTHORITY, session.identity.uri("cluster.local"), lifetime=LIFETIME
            ),
            changed=self._moved.set,
        )

    def resolve(self, session: Session) -> Snapshot | None:
        if self.policies is None:
            return None
        modes = Modes(default=self.mode, ports={})
        return callers.snapshot_of(*self.policies, modes=modes, ipv6=session.ipv6, destinations=DESTINATIONS)

    async def until_connected(self) -> None:
        while NODE not in self.ads.sessions:
            await self._wait()

    async def push(self, *policies: Policy, mode: Mode = Mode.PERMISSIVE) -> None:
        """Returns when Envoy has acknowledged them."""
        self.policies, self.mode = policies, mode
        self.ads.refresh()
        session = self.ads.sessions[NODE]
        while (wanted := self.resolve(session)) is None or not session.in_sync(wanted):
            if session.nack is not None:
                raise RuntimeError(session.nack)
            await self._wait()

    async def _wait(self) -> None:
        self._moved.clear()
        await asyncio.wait_for(self._moved.wait(), 60)


sent: list[str] = []
"""The answers that the pod's application got from beyond."""


async def hold_outgoing() -> None:
    """The pod's application speaks plaintext to a Service of the mesh: on one connection, and on new ones."""
    first_reader, first_writer = await asyncio.open_connection(CLIENT, BEYOND)
    while True:
        reader, writer = await asyncio.open_connection(CLIENT, BEYOND)
        for source, sink in ((first_reader, first_writer), (reader, writer)):
            sink.write(tls_peer.GREETING)
            sent.append((await source.readline()).decode())
        writer.close()
        await asyncio.sleep(0.02)  # a pace


async def play(client: Client, directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    plane = ControlPlane()
    await plane.ads.start("127.0.0.1:15010", callers.SERVER)
    for port in (ECHO, ECHO_TOO, SERVER_FIRST, EXCLUDED):
        await asyncio.start_server(serve, "0.0.0.0", port)
    application_tls = server_context(issue_server(callers.AUTHORITY, ("application",)))
    await asyncio.start_server(serve, "0.0.0.0", OWN_TLS, ssl=application_tls)
    (directory / "token").write_text(callers.token(NODE, account="server"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "POD_NAMESPACE": "foo",
        "POD_NAME": "pod",
        # A name, so that the resolver and the hosts file are part of it.
        "XDS_ADDRESS": "localhost:15010",
        "MESH_ROOT": callers.AUTHORITY.pem.decode(),
        "TOKEN_DIRECTORY": str(directory),
        "RUN_DIRECTORY": str(directory),
    }
    envoy = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "enforcer", "sidecar", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert envoy.stdout is not None
    stdout = envoy.stdout
    logs: asyncio.Queue[bytes] = asyncio.Queue()

    async def pump() -> None:
        # Envoy would wait for the reader of a full pipe.
        async for line in stdout:
            logs.put_nowait(line)

    pumping = asyncio.create_task(pump())

    async def access(count: int) -> list[dict[str, Any]]:
        # A line comes when its connection has ended: not always in the order of their beginning.
        lines = [json.loads(await asyncio.wait_for(logs.get(), 60)) for _ in range(count)]
        return sorted(lines, key=lambda line: int(line["destination_port"]))

    await plane.until_connected()
    result["before"] = await client.connect(ECHO, READY)
    await plane.push()
    while "refused" in (await client.connect(READY)):
        # Workers start right after the ACK; the readiness port tells when.
        await asyncio.sleep(0.005)
    result["open"] = await client.connect(ECHO, ECHO_TOO, SERVER_FIRST, EXCLUDED, INBOUND, CLOSED)
    result["open_log"] = await access(4)
    result["tls"] = [await client.ask(f"tls {kind} {ECHO}") for kind in KINDS]
    result["own_tls"] = await client.ask(f"own-tls {OWN_TLS}")
    result["tls_log"] = await access(5)
    await plane.push(mode=Mode.STRICT)
    accepted.clear()
    result["strict"] = await client.connect(ECHO, SERVER_FIRST)
    result["strict_tls"] = [await client.ask(f"tls {kind} {ECHO}") for kind in KINDS]
    result["strict_accepted"] = list(accepted)
    result["strict_log"] = await access(6)
    await plane.push(mode=Mode.DISABLE)
    result["disable"] = [*await client.connect(ECHO), await client.ask(f"tls own {OWN_TLS}")]
    await access(2)
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
    await plane.push()
    outgoing = asyncio.create_task(hold_outgoing())
    result["held"] = json.loads(await client.ask(f"hold {ECHO}"))
    outgoing.cancel()
    result["outgoing"] = await asyncio.gather(outgoing, return_exceptions=True) and sent
    result["seen_beyond"] = json.loads(await client.ask("seen"))
    await plane.push(policy("shut", "DENY", ECHO_TOO))
    await plane.ads.stop()
    result["orphaned"] = await client.connect(ECHO, ECHO_TOO)
    envoy.send_signal(signal.SIGKILL)
    await envoy.wait()
    await pumping
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
    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(play(client, Path(directory)))
    client.close()
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
