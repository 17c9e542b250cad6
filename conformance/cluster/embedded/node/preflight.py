"""Whether this machine can run a node: found out by taking the node's own steps, in a child process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.images import PROJECT
from conformance.cluster.embedded.node.namespaces import (
    FILTER,
    MOUNTS,
    NETWORK,
    NamespaceError,
    enter_namespaces,
    file_steps,
    perform,
)
from conformance.cluster.embedded.node.network import second_address, set_up_node, set_up_pod
from conformance.cluster.embedded.node.rootfs import set_up_root
from conformance.cluster.embedded.node.services import load_services
from conformance.cluster.embedded.node.spec import Mount

_MODULE = "conformance.cluster.embedded.node.preflight"
_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    step: str
    ok: bool
    error: str = ""
    remedy: str = ""
    note: str = ""


def preflight() -> list[Step]:
    """The steps up to the first that fails; a node can run where all are ok. Leaves nothing behind."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.TimeoutExpired:
        return [Step(step="run the checks", ok=False, error=f"no answer in {_SECONDS:g} s")]
    steps = [Step(**json.loads(line)) for line in done.stdout.splitlines()]
    if done.returncode != 0 and all(step.ok for step in steps):
        last_words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        steps.append(Step(step="run the checks", ok=False, error=last_words))
    return steps


def _steps_in_node() -> Iterator[tuple[str, str, Callable[[], object]]]:
    yield from file_steps()
    no_ipv6 = ""

    def network() -> None:
        nonlocal no_ipv6
        no_ipv6 = set_up_node()

    def packet_filter() -> str:
        nonlocal no_ipv6
        _, no_ipv6 = load_services(no_ipv6)
        return f"works, for IPv4 only: {no_ipv6}" if no_ipv6 else "works, for IPv4 and IPv6"

    yield "set the node's network up", NETWORK, network
    yield "load the packet filter", FILTER, packet_filter
    yield "give a pod its network", NETWORK, lambda: _make_pod(no_ipv6)
    yield "overlay a directory in a container", MOUNTS, _make_container


def _make_pod(no_ipv6: str) -> None:
    node = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    ip = "10.244.0.2"
    set_up_pod(ip=ip, ip6="" if no_ipv6 else second_address(ip), hostname="preflight")
    linux.setns(node)
    os.close(node)


def _make_container() -> None:
    linux.unshare(linux.CLONE_NEWNS)
    set_up_root((Mount(source=None, target="/etc/authz-preflight/made"),))


def _report(step: Step) -> None:
    print(json.dumps(asdict(step)), flush=True)


def _main() -> int:
    try:
        enter_namespaces()
        _report(Step(step="enter user, network, mount, UTS, IPC and PID namespaces", ok=True))
        child = os.fork()
        if child:
            _pid, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status)
        for step, remedy, action in _steps_in_node():
            note = perform(step, remedy, action)
            _report(Step(step=step, ok=True, note=note if isinstance(note, str) else ""))
    except NamespaceError as error:
        _report(Step(step=error.step, ok=False, error=error.error, remedy=error.remedy))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
