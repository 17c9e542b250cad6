"""The barrier of Istio's sidecars: a policy of our own, looked for in the sidecar's own configuration.

After a step's changes a policy `barrier-<nonce>` is applied with the namespace and the labels of each probed
workload: DENY on a port that nobody listens on. Policies come to istiod by one watch, in the order in which
they were written; so a sidecar whose configuration dump has the nonce has everything before it. A dump that
merely lacks a policy proves nothing.

Labels: the policy selects by all labels that the pod has now, so a label that was put on is proven with it;
for one that was taken off a second policy selects by it, written first, and must not be in the dump. A
PeerAuthentication leaves no name in a sidecar: it is awaited by its own effect, which the rounds look for.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from conformance.barrier import Changes
from conformance.cluster.kube import Kube, ObjectKey
from conformance.errors import ProbeError, SetupError
from conformance.evidence import Waited

__all__ = ["BARRIER_PORT", "PREFIX", "ConfigDump", "pilot_agent", "policies_in"]

API = ("security.istio.io/v1", "security.istio.io/v1beta1")
PREFIX = "barrier-"
BARRIER_PORT = "15"  # assigned to nobody, and no workload listens there
PAUSE = 0.05  # seconds between two dumps; one costs an exec
Labels = Mapping[str, str]
Dump = Callable[[str, float], str]  # (pod as namespace/name, deadline) -> the dump; raises ProbeError


def policies_in(dump: str) -> set[str]:
    """namespace/name of every policy whose rules stand in a listener of a configuration dump. Raises
    ValueError for what is no dump."""
    found: set[str] = set()
    body = json.loads(dump)
    if not isinstance(body, dict) or not isinstance(body.get("configs"), list):
        raise ValueError("this is no configuration dump")
    for section in body["configs"]:
        if str(section.get("@type", "")).endswith("ListenersConfigDump"):
            # What is being warmed or drained decides no new connection.
            for listener in section.get("dynamic_listeners") or []:
                found.update(_names(listener.get("active_state") or {}))
    return found


def _names(value: Any) -> Iterator[str]:
    """The policies of all RBAC filters below: keys such as ns[foo]-policy[p]-rule[0]."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "policies" and isinstance(child, dict):
                for name in child:
                    namespace, ok, rest = name.removeprefix("ns[").partition("]-policy[")
                    if ok:
                        yield f"{namespace}/{rest.partition(']-rule[')[0]}"
            else:
                yield from _names(child)
    elif isinstance(value, list):
        for child in value:
            yield from _names(child)


def pilot_agent(kube: Kube, container: str) -> Dump:
    """Asks the sidecar's own agent, in its own container."""
    from conformance.cluster.exec import open_exec

    def dump(pod: str, deadline: float) -> str:
        namespace, _, name = pod.partition("/")
        stream = open_exec(
            kube,
            namespace=namespace,
            pod=name,
            container=container,
            command=("pilot-agent", "request", "GET", "config_dump"),
            what=f"pilot-agent in {pod}",
        )
        try:
            return stream.receive_all(deadline)
        finally:
            stream.close()

    return dump


class ConfigDump:
    """See the module. One at a time: a step waits for its own."""

    strategy = "istio-config-dump"

    def __init__(self, kube: Kube, *, dump: Dump, awaited_kinds: Iterable[str]) -> None:
        self._kube = kube
        self._dump = dump
        self._kinds = frozenset(awaited_kinds)
        self._labels: dict[str, Labels] = {}  # of each pod when it was waited for last

    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        begun = time.monotonic()
        deadline = begun + timeout
        nonce = PREFIX + secrets.token_hex(4)
        made: list[ObjectKey] = []
        missing: list[str] = []
        try:
            wanted, unwanted = self._apply(nonce, pods, made)
            for pod in pods:
                missing += self._await(pod, wanted[pod], unwanted.get(pod), deadline)
        except (SetupError, ProbeError) as error:
            missing.append(error.message)
        finally:
            missing += self._remove(made)
        touched = {key.kind for key in (*changes.written, *changes.deleted)}
        missing += [f"nothing tells of the landing of a {kind}" for kind in sorted(touched - self._kinds)]
        detail = f"{nonce} in the configuration of {', '.join(pods) or 'no sidecar (none is probed)'}"
        if "PeerAuthentication" in touched:
            detail += "; PeerAuthentication by its effect alone"
        return Waited(
            strategy=self.strategy,
            landed=not missing,
            seconds=time.monotonic() - begun,
            detail="; ".join(missing) if missing else detail,
        )

    def _apply(
        self, nonce: str, pods: Sequence[str], made: list[ObjectKey]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The policies that each pod's dump must have, and those that it must not. Raises SetupError."""
        wanted: dict[str, str] = {}
        unwanted: dict[str, str] = {}
        for number, pod in enumerate(pods):
            labels = self._labels_of(pod)
            gone = {k: v for k, v in self._labels.get(pod, {}).items() if labels.get(k) != v}
            namespace = pod.partition("/")[0]
            if gone:
                # Written first: where the other one has arrived, this one has been considered.
                unwanted[pod] = self._write(namespace, f"{nonce}-{number}-gone", dict(gone), made)
            wanted[pod] = self._write(namespace, f"{nonce}-{number}", labels, made)
            self._labels[pod] = labels
        return wanted, unwanted

    def _labels_of(self, pod: str) -> Labels:
        namespace, _, name = pod.partition("/")
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}}
        answer = self._kube.get(self._kube.key(document)).or_raise(f"read pod {pod}")
        return dict(answer.body["metadata"].get("labels") or {})

    def _write(self, namespace: str, name: str, labels: Labels, made: list[ObjectKey]) -> str:
        version = next((v for v in API if self._kube.serves(v, "AuthorizationPolicy")), API[0])
        spec: dict[str, Any] = {
            "action": "DENY",
            "rules": [{"to": [{"operation": {"ports": [BARRIER_PORT]}}]}],
            "selector": {"matchLabels": dict(labels)},
        }
        document = {
            "apiVersion": version,
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        made.append(self._kube.key(document))
        self._kube.create(document).or_raise(f"create {made[-1]}")
        return f"{namespace}/{name}"

    def _await(self, pod: str, wanted: str, unwanted: str | None, deadline: float) -> list[str]:
        """What is not proven at the deadline, in words."""
        why = ""
        while True:
            try:
                found = policies_in(self._dump(pod, deadline))
                why = "" if wanted in found else f"{wanted} is not in the configuration of {pod}"
                if not why and unwanted in found:
                    why = f"{pod} is still selected by a label that it has no more"
            except (ProbeError, ValueError) as error:
                why = f"the configuration of {pod} cannot be read: {error}"
            if not why:
                return []
            if time.monotonic() >= deadline:
                return [why]
            time.sleep(PAUSE)  # each look is an exec: a bounded poll

    def _remove(self, made: Sequence[ObjectKey]) -> list[str]:
        problems = []
        for key in made:
            try:
                answer = self._kube.delete(key)
                if not answer.ok and answer.code != 404:
                    problems.append(f"{key} cannot be deleted: {answer.code} {answer.message}")
            except SetupError as error:
                problems.append(error.message)
        return problems

    def close(self) -> None:
        return
