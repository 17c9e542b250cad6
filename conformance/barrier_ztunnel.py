"""The barrier of ztunnel: a port of its own on each backend, whose answers a policy of ours must turn.

Nobody may look into ztunnel from outside. tcp-echo listens on a port that no case speaks of. After a step's
changes it is tried: where it answers, a DENY on it is applied, and it must be refused then; where it is
refused already, by an ALLOW policy that does not name it, an ALLOW for it is applied, and it must answer
then. Where neither turns it (a DENY of everything), nothing is proven. Ours is written last and policies come
by one watch in order, so whoever obeys it has everything before it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence

from conformance.barrier import Changes
from conformance.barrier_istio import API, PREFIX
from conformance.cluster.kube import Kube, ObjectKey
from conformance.errors import ProbeError, SetupError
from conformance.evidence import Waited
from conformance.probe.once import ask_once

__all__ = ["BACKEND", "ZtunnelPort", "from_pod"]

BACKEND = "tcp-echo"
PORT = 9009
PAUSE = 0.05  # seconds between two tries
Answers = Callable[
    [str, int], bool
]  # whether the port of that pod (namespace/name) answers; raises ProbeError


def from_pod(kube: Kube, *, namespace: str, pod: str, container: str, timeout: float) -> Answers:
    """Tried from a client that the mesh knows."""

    def answers(target: str, port: int) -> bool:
        there, _, name = target.partition("/")
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": there}}
        body = kube.get(kube.key(document)).or_raise(f"read pod {target}").body
        host = str((body.get("status") or {}).get("podIP") or "")
        deadline = time.monotonic() + timeout
        return bool(
            ask_once(
                kube,
                namespace=namespace,
                pod=pod,
                container=container,
                host=host,
                port=port,
                deadline=deadline,
            )
        )

    return answers


class ZtunnelPort:
    """See the module."""

    strategy = "ztunnel-port"

    def __init__(self, kube: Kube, *, answers: Answers, awaited_kinds: Iterable[str]) -> None:
        self._kube = kube
        self._answers = answers
        self._kinds = frozenset(awaited_kinds)

    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        begun = time.monotonic()
        backends = [pod for pod in pods if pod.partition("/")[2].startswith(f"{BACKEND}-")]
        missing: list[str] = []
        turned: list[str] = []
        for pod in backends:
            try:
                turned.append(self._turn(pod, begun + timeout))
            except (SetupError, ProbeError) as error:
                missing.append(error.message)
        touched = {key.kind for key in (*changes.written, *changes.deleted)}
        missing += [f"nothing tells of the landing of a {kind}" for kind in sorted(touched - self._kinds)]
        detail = "; ".join(missing or turned) or "no backend is probed"
        return Waited(
            strategy=self.strategy, landed=not missing, seconds=time.monotonic() - begun, detail=detail
        )

    def _turn(self, pod: str, deadline: float) -> str:
        """What turned. Raises SetupError where nothing does, ProbeError where it cannot be tried."""
        namespace = pod.partition("/")[0]
        before = self._answers(pod, PORT)
        action = "DENY" if before else "ALLOW"
        document = {
            "apiVersion": next((v for v in API if self._kube.serves(v, "AuthorizationPolicy")), API[0]),
            "kind": "AuthorizationPolicy",
            "metadata": {"name": PREFIX + secrets.token_hex(4), "namespace": namespace},
            "spec": {
                "action": action,
                "selector": {"matchLabels": {"app": BACKEND}},
                "rules": [{"to": [{"operation": {"ports": [str(PORT)]}}]}],
            },
        }
        key: ObjectKey = self._kube.key(document)
        try:
            self._kube.create(document).or_raise(f"create {key}")
            self._until(pod, deadline, answers=not before, what=f"{action} on port {PORT} has no effect")
        finally:
            self._kube.delete(key)
        if before:
            # Gone again before anything is probed; an ALLOW beside others opens nothing but this port.
            self._until(pod, deadline, answers=True, what=f"the barrier's {action} stays in force")
        return f"{pod}: port {PORT} {'was refused after answering' if before else 'answered after refusing'}"

    def _until(self, pod: str, deadline: float, *, answers: bool, what: str) -> None:
        while self._answers(pod, PORT) is not answers:
            if time.monotonic() >= deadline:
                raise SetupError(f"{pod}: {what}: nothing is proven to have landed")
            time.sleep(PAUSE)  # each try is a connection: a bounded poll

    def close(self) -> None:
        return
