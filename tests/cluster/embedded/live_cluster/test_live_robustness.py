"""A cluster that works for long: nothing grows with what has come and gone, and floods are served."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.cluster.embedded.live import (
    DEADLINE,
    STAY,
    Live,
    Object,
    Space,
    container,
    is_ready,
    pod,
    processes,
    service,
)
from tests.processes import children, descendants

AT_ONCE = 25  # pods, four times
FLOOD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What the node's own processes hold."""

    processes: int
    descriptors: int
    kilobytes: int

    @classmethod
    def of(cls, live: Live) -> Self:
        return cls(
            processes=len(descendants(live.pid)),  # the launcher, too
            descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in own(live)),
            kilobytes=sum(resident(pid) for pid in own(live)),
        )


def own(live: Live) -> tuple[int, int]:
    """The node's own processes: its first, and the control plane, which is older than any pod."""
    (init,) = children(live.pid)
    return init.pid, children(init.pid)[0].pid


def resident(pid: int) -> int:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0])


def injected(name: str) -> Object:
    """A pod as the injector makes it: an init container, two containers, files, a token."""
    volumes = [{"name": "c", "configMap": {"name": "kube-root-ca.crt"}}]
    made = pod(name, STAY, volumeMounts=[{"name": "c", "mountPath": "/c"}], spec={"volumes": volumes})
    made["spec"] |= {"initContainers": [container("init", "true")]}
    made["spec"]["containers"].append(container("proxy", STAY))
    return made


def come_and_go(space: Space, many: int) -> None:
    for number in range(many):
        space.create("pods", injected(f"p{number}"))
    space.until(lambda: all(map(is_ready, space.pods())))
    assert [space.exec(f"p{number}", "echo", "here") for number in (0, many - 1)] == ["here\n"] * 2
    space.core.delete_collection_namespaced_pod(space.name, grace_period_seconds=0)
    space.until(lambda: not space.pods())


def test_pods_that_come_and_go_leave_nothing(live: Live, space: Space) -> None:
    for _ in range(2):
        come_and_go(space, AT_ONCE)
    half = settled(live, space)
    for _ in range(2):
        come_and_go(space, AT_ONCE)
    full = settled(live, space, like=half)
    assert full.descriptors <= half.descriptors + 5, (half, full)
    # The history of watches fills in both halves alike; pods that stayed would weigh more.
    assert full.kilobytes <= half.kilobytes + 8 * 1024


def settled(live: Live, space: Space, like: Weight | None = None) -> Weight:
    """The weight once no pod's process is left: a forced deletion shows before the node has cleared up.

    With an earlier weight, once no more is held than then, or at a deadline: the control plane has as many
    connections to its own API as were busy at once, and closes them only after 15 to 30 idle seconds.
    """
    space.until(lambda: len(descendants(live.pid)) == 1 + len(own(live)))
    with suppress(AssertionError):  # the caller compares, and shows both
        space.until(lambda: like is None or Weight.of(live).descriptors <= like.descriptors + 5)
    return Weight.of(live)


def test_a_flood_of_exec_sessions(space: Space) -> None:
    space.run("p", STAY)
    space.ready("p")
    together = threading.Barrier(FLOOD, timeout=DEADLINE)

    def talk(number: int) -> str:
        with space.session("p", "cat", stdin=True) as session:
            together.wait()
            session.write_stdin(f"{number}\n")
            return str(session.readline_stdout(timeout=DEADLINE))

    with ThreadPoolExecutor(FLOOD) as pool:
        answers = list(pool.map(talk, range(FLOOD)))
    assert answers == [str(number) for number in range(FLOOD)]
    space.until(lambda: processes(space, "p") == ["sh", "sleep", "sh"])


CONNECT = """
import socket, sys
many = int(sys.argv[1])
sockets = [socket.create_connection(("echo", 80), 10) for _ in range(many)]
for number, one in enumerate(sockets):
    one.sendall(b"line %d\\n" % number)
print(sum(one.recv(99) == b"hello line %d\\n" % number for number, one in enumerate(sockets)))
"""


def test_a_flood_of_connections_through_a_service(space: Space) -> None:
    probe = {"tcpSocket": {"port": 9000}, "periodSeconds": 1}
    space.run("echo", "exec tcp-echo", readinessProbe=probe)
    space.create("services", service("echo", selector="echo", ports=[(80, 9000)]))
    space.run("client", STAY)
    for name in ("client", "echo"):
        space.ready(name)
    space.until(lambda: "hello" in space.exec("client", "sh", "-c", "echo x | nc -w 1 echo 80 2>&1; true"))
    assert space.exec("client", "python3", "-I", "-S", "-c", CONNECT, str(FLOOD)) == f"{FLOOD}\n"
