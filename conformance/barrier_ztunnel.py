"""The barrier of ztunnel: a port of its own on each backend, whose answers a policy of ours must turn.

Nobody may look into ztunnel from outside. tcp-echo listens on a port that no case speaks of. After a step's
changes it is tried: where it answers, a DENY on it is applied, and it must be refused then; where it is
refused already, by an ALLOW policy that does not name it, an ALLOW for it is applied, and it must answer
then. Once ours is gone it must turn back; what stays open was opened by something else, and a DENY tells.
Where neither turns it, a DENY of everything may be in force: then the port of another backend on the same
node must turn, by a policy written later, because one ztunnel serves the node. Where there is none, or the
DENY is the whole mesh's, nothing is proven. Ours is written last and policies come by one watch in order, so
whoever obeys it has everything before it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

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
BY_EFFECT = frozenset({"PeerAuthentication", "Service"})
REFUSALS = 2  # tries without an answer that make a refusal
SOON = 1.0  # seconds in which a policy of ours is gone at the least
PATIENCE = 6  # a part of the time, after which a neighbour is asked
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

    def __init__(
        self,
        kube: Kube,
        *,
        answers: Answers,
        awaited_kinds: Iterable[str],
        neighbours: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`neighbours`: all backends of the stage that ztunnel serves, as namespace/name."""
        self._kube = kube
        self._answers = answers
        self._kinds = frozenset(awaited_kinds)
        self._neighbours = neighbours

    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        begun = time.monotonic()
        backends = [pod for pod in pods if pod.partition("/")[2].startswith(f"{BACKEND}-")]
        missing: list[str] = []
        turned: list[str] = []
        for pod in backends:
            try:
                turned.append(self._proof(pod, begun, timeout))
            except (SetupError, ProbeError) as error:
                missing.append(error.message)
        touched = {key.kind for key in (*changes.written, *changes.deleted)}
        missing += [f"nothing tells of the landing of a {kind}" for kind in sorted(touched - self._kinds)]
        # They come by other watches, and leave nothing that could be seen from here.
        effects = [f"{kind} by its effect alone" for kind in sorted(touched & BY_EFFECT)]
        detail = "; ".join(missing or [*(turned or ["no backend is probed"]), *effects])
        return Waited(
            strategy=self.strategy, landed=not missing, seconds=time.monotonic() - begun, detail=detail
        )

    def _proof(self, pod: str, begun: float, timeout: float) -> str:
        """What turned. Raises SetupError where nothing does, ProbeError where it cannot be tried."""
        deadline = begun + timeout
        if said := self._turn(pod, begun + timeout / PATIENCE, deadline):
            return said
        node = self._node(pod)
        others = [other for other in self._neighbours() if other != pod and self._node(other) == node != ""]
        said = self._beside(pod, others, deadline) if others else self._turn(pod, deadline, deadline)
        if not said:
            none = "none of its neighbours' turns" if others else "no other backend is on its node"
            raise SetupError(f"{pod}: port {PORT} stays refused and {none}: nothing is proven to have landed")
        return said

    def _turn(self, pod: str, patience: float, deadline: float) -> str:
        """What turned; empty where the port stays refused until `patience`. Raises SetupError where it
        answers whatever we write, ProbeError where it cannot be tried."""
        if self._is_open(pod):
            return self._turn_off(pod, patience, deadline)
        begun = time.monotonic()
        with self._written(pod, "ALLOW"):
            if not self._until(pod, patience, answers=True):
                return ""
        # What stays open once ours is gone may have been opened by something before ours. And gone it must be
        # before anything is probed: an ALLOW without others closes all other ports.
        now = time.monotonic()
        if self._until(pod, min(now + max(SOON, 2 * (now - begun)), deadline), answers=False):
            return f"{pod}: port {PORT} answered after refusing"
        return self._turn_off(pod, patience, deadline)

    def _turn_off(self, pod: str, patience: float, deadline: float) -> str:
        """As `_turn`, of a port that answers."""
        with self._written(pod, "DENY"):
            if not self._until(pod, deadline, answers=False):
                why = f"DENY on port {PORT} has no effect: nothing is proven to have landed"
                raise SetupError(f"{pod}: {why}")
        # Gone again before anything is probed.
        turned = self._until(pod, patience, answers=True)
        return f"{pod}: port {PORT} was refused after answering" if turned else ""

    def _beside(self, pod: str, others: Sequence[str], deadline: float) -> str:
        """A neighbour whose port turns, by a policy that was written after an ALLOW for this one's: the same
        ztunnel has both. Where this one's is refused all the same a DENY covers it, and that has landed.
        Empty where no neighbour's turns. Raises as `_turn`."""
        with self._written(pod, "ALLOW"):
            for other in others:
                if self._turn(other, deadline, deadline):
                    seen = "answers" if self._answers(pod, PORT) else "is refused, allowed or not"
                    return f"{pod}: port {PORT} {seen}; that of {other} on the same node turned after it"
        return ""

    def _node(self, pod: str) -> str:
        namespace, _, name = pod.partition("/")
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}}
        body = self._kube.get(self._kube.key(document)).or_raise(f"read pod {pod}").body
        return str((body.get("spec") or {}).get("nodeName") or "")

    @contextmanager
    def _written(self, pod: str, action: str) -> Iterator[None]:
        """A policy of ours on the port of the pod's namespace; deleted afterwards. Raises SetupError where it
        stays: an ALLOW denies all other ports where the case has none."""
        document = {
            "apiVersion": next((v for v in API if self._kube.serves(v, "AuthorizationPolicy")), API[0]),
            "kind": "AuthorizationPolicy",
            "metadata": {"name": PREFIX + secrets.token_hex(4), "namespace": pod.partition("/")[0]},
            "spec": {
                "action": action,
                "selector": {"matchLabels": {"app": BACKEND}},
                "rules": [{"to": [{"operation": {"ports": [str(PORT)]}}]}],
            },
        }
        key: ObjectKey = self._kube.key(document)
        try:
            self._kube.create(document).or_raise(f"create {key}")
            yield
        finally:
            answer = self._kube.delete(key)
            if answer.code != 404:
                answer.or_raise(f"{key} cannot be deleted")

    def _is_open(self, pod: str) -> bool:
        """No answer may have another cause than a policy: it counts when it comes several times in a row."""
        return any(self._answers(pod, PORT) for _ in range(REFUSALS))

    def _until(self, pod: str, deadline: float, *, answers: bool) -> bool:
        while self._is_open(pod) is not answers:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE)  # each try is a connection: a bounded poll
        return True

    def close(self) -> None:
        return
