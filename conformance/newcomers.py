"""Pods and namespaces that are born inside a case, and connections that the sweeps do not make.

No log of such a pod is followed. After each probe a marker is sent inside the pod; when that stands in the
log, what the log has of the probe is the second witness.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conformance.cluster.exec import ExecStream, open_exec
from conformance.cluster.kube import ObjectKey
from conformance.cluster.logs import read_log
from conformance.cluster.ready import is_ready, wait_for_deletion, wait_for_pods
from conformance.errors import ProbeError, SetupError
from conformance.evidence import Controls, Observation, Outcome, Testimony
from conformance.probe.session import Request
from conformance.rig import Rig
from conformance.sweep import new_nonce
from conformance.topology import Ref
from conformance.verdict import Expected, Verdict, judge

__all__ = ["Asked", "Held", "Newcomer", "ask", "ask_all", "hold", "namespace", "newcomer"]

IMAGE = {"image": "authz-conformance:dev", "imagePullPolicy": "IfNotPresent"}
NAME = "newcomer"
CONTAINER = "app"
PAUSE = 0.05  # seconds between two looks at a log
# Says one line to a port of its own pod; a line of JSON: the answer.
SAY = """
import json, socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as sock:
    sock.sendall(sys.argv[2].encode() + b"\\n")
    print(json.dumps(sock.makefile().readline()), flush=True)
"""
# Connects, says its line (none where it is empty) until the connection ends or the time is over. Two lines of
# JSON: what came first, or that nothing did within a second; then how it ended.
HOLD = """
import json, select, socket, sys, time
host, port, line, limit = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
sock = socket.create_connection((host, port), 5)
if line: sock.sendall(line.encode() + b"\\n")
ready = select.select([sock], [], [], 1.0)[0]
try: first = sock.recv(4096).decode() if ready else None
except ConnectionResetError: first = ""
begun = last = time.monotonic()
print(json.dumps({"first": first}), flush=True)
ended = "" if first != "" else "ended"
while not ended and time.monotonic() - begun < limit:
    try:
        if line: sock.sendall(line.encode() + b"\\n")
        if select.select([sock], [], [], 0.1)[0]:
            if sock.recv(65536): last = time.monotonic()
            else: ended = "fin"
    except (ConnectionResetError, BrokenPipeError): ended = "rst"
print(json.dumps({"ended": ended, "after": time.monotonic() - begun, "answered": last - begun}), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    namespace: str
    address: str
    name: str = NAME

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@contextmanager
def namespace(rig: Rig, name: str) -> Iterator[ObjectKey]:
    """An injected namespace of that real name; gone afterwards. Raises SetupError."""
    labels = dict(rig.profile.injection_labels)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    key, answer = rig.kube.apply(body)
    answer.or_raise(f"create {key}")
    for beside in rig.kube.image.documents() if rig.kube.image else []:
        rig.kube.apply(beside, namespace=name)[1].or_raise(f"prepare {key}")
    try:
        yield key
    finally:
        rig.kube.delete(key)
        if not wait_for_deletion(rig.kube, key, deadline=time.monotonic() + rig.profile.deadlines.ready):
            raise SetupError(f"{key} was not deleted in time")


@contextmanager
def newcomer(
    rig: Rig,
    real: str,
    annotations: Mapping[str, str] | None = None,
    *,
    name: str = NAME,
    labels: Mapping[str, str] | None = None,
) -> Iterator[Newcomer]:
    """A ready tcp-echo in the namespace of that real name; deleted afterwards. Raises SetupError."""
    metadata = {
        "name": name,
        "namespace": real,
        "labels": {"app": NAME, **(labels or {})},
        "annotations": dict(annotations or {}),
    }
    container = {"name": CONTAINER, "command": ["tcp-echo"], **IMAGE}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    key, answer = rig.kube.apply(body)
    answer.or_raise(f"create {key}")

    def mine(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [pod for pod in pods if pod["metadata"]["name"] == name and is_ready(pod)]

    deadline = time.monotonic() + rig.profile.deadlines.ready
    try:
        pods = wait_for_pods(
            rig.kube, real, done=lambda pods: bool(mine(pods)), deadline=deadline, what=f"the pod {key}"
        )
        yield Newcomer(namespace=real, address=str(mine(pods)[0]["status"]["podIP"]), name=name)
    finally:
        rig.kube.delete(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One probe of a newcomer, or of a Service of several, as both ends tell it. `alive`: all of them answer
    inside their own pods; `pod`: the one that heard it, else the first."""

    line: str
    seen: Observation
    testimony: Testimony
    alive: bool
    pod: str = NAME

    def verdict(self, rig: Rig, outcome: Outcome) -> Verdict:
        """The verdict, where the same way is known to have answered before."""
        expected = Expected(
            outcome=outcome, workload=self.pod, line=self.line, denials=frozenset(rig.profile.denials)
        )
        controls = Controls(baseline=True, bypass=self.alive)
        return judge(expected, self.seen, controls, self.testimony)


def ask(rig: Rig, source: str, pod: Newcomer, port: int) -> Asked:
    """One probe by pod address, and what the pod's log has of it. What cannot be told is UNKNOWN, or a
    testimony that is not complete; or ProbeError."""
    return ask_all(rig, source, pod.address, [port], [pod])[0]


def ask_all(rig: Rig, source: str, host: str, ports: Sequence[int], pods: Sequence[Newcomer]) -> list[Asked]:
    """One probe of `host` for each of `ports`, all at once, and which of the pods behind it heard it."""
    session = rig.session(Ref.parse(source))
    timeout = rig.profile.deadlines.probe
    nonces = [new_nonce() for _ in ports]
    lines = [f"port {port} {nonce}" for port, nonce in zip(ports, nonces, strict=True)]
    session.start(
        [
            Request(id=str(number), host=host, port=port, line=lines[number], timeout=timeout)
            for number, port in enumerate(ports)
        ]
    )
    seen = session.finish()
    alive: dict[int, bool] = dict.fromkeys(ports, True)
    logs: dict[str, str] = {}
    missing: list[str] = []
    for pod in pods:
        markers = {port: new_nonce() for port in alive}
        said = {port: _say(rig, pod, port, marker) for port, marker in markers.items()}
        alive = {port: alive[port] and said[port] for port in alive}
        # Also where a port is dead: what it has heard it has heard.
        logs[pod.name] = _log_with(rig, pod, [markers[port] for port in alive if said[port]])
        if not all(marker in logs[pod.name] for marker in markers.values()):
            missing.append(pod.key)
    heard = [tuple(name for name, log in logs.items() if nonce in log) for nonce in nonces]
    return [
        Asked(
            line=lines[number],
            seen=seen[str(number)],
            testimony=Testimony(
                seen_in=heard[number],
                complete=not missing,
                why=f"the marker was not found in the log of {', '.join(missing)}" if missing else "",
            ),
            alive=alive[port],
            pod=heard[number][0] if heard[number] else pods[0].name,
        )
        for number, port in enumerate(ports)
    ]


def _log_with(rig: Rig, pod: Newcomer, markers: Iterable[str]) -> str:
    """The pod's log, once it has the markers or the deadline is over."""
    wanted = list(markers)
    deadline = time.monotonic() + rig.profile.deadlines.testimony
    while True:
        log = read_log(rig.kube, namespace=pod.namespace, pod=pod.name, container=CONTAINER)
        if all(marker in log for marker in wanted) or time.monotonic() >= deadline:
            return log
        time.sleep(PAUSE)  # each look is a request: a bounded poll


def _say(rig: Rig, pod: Newcomer, port: int, line: str) -> bool:
    """Whether a line that is said inside the pod, where no policy has a say, is answered."""
    stream = open_exec(
        rig.kube,
        namespace=pod.namespace,
        pod=pod.name,
        container=CONTAINER,
        command=("python3", "-c", SAY, str(port), line),
        what=f"a probe inside {pod.key}",
    )
    try:
        answer = stream.receive(time.monotonic() + rig.profile.deadlines.ready)
        return bool(json.loads(answer) == f"hello {line}\n")
    except (ProbeError, ValueError):
        return False
    finally:
        stream.close()


class Held:
    """A connection that is kept open. `first`: what came first, None = nothing within a second, "" = end."""

    def __init__(self, stream: ExecStream, first: str | None, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout
        self.first = first
        self.since = time.monotonic()

    def end(self) -> tuple[str, float, float]:
        """How it ended (fin, rst; empty: it did not), and how many seconds after `since` it ended and was
        last answered."""
        said = json.loads(self._stream.receive(time.monotonic() + self._timeout))
        return str(said["ended"]), float(said["after"]), float(said["answered"])


@contextmanager
def hold(rig: Rig, source: str, target: str, port: int, *, line: str, limit: float) -> Iterator[Held]:
    """A connection between two workloads by pod address, held for `limit` seconds at most; a client without
    a line is silent. Raises ProbeError."""
    ref = Ref.parse(source)
    address = rig.pods[Ref.parse(target)].address
    pod = rig.pods[ref]
    stream = open_exec(
        rig.kube,
        namespace=pod.namespace,
        pod=pod.name,
        container=ref.name,
        command=("python3", "-c", HOLD, address, str(port), line, str(limit)),
        what=f"a held connection from {source}",
    )
    try:
        timeout = limit + rig.profile.deadlines.ready
        try:
            first = json.loads(stream.receive(time.monotonic() + timeout))["first"]
        except ValueError as error:
            raise ProbeError(f"{source}: this is no JSON: {error}") from None
        yield Held(stream, first, timeout)
    finally:
        stream.close()
        # Its line in the access log comes only now, and must not be taken for a later connection's.
        path = (target, pod.address, port)
        rig.sent[path] = rig.sent.get(path, 0) + 1
