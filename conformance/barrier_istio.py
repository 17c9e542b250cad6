"""The barrier of Istio's sidecars: a policy of our own, looked for in the sidecar's own configuration.

After a step's changes a policy `barrier-<nonce>` is applied with the namespace and the labels of each probed
workload: DENY on a port that nobody listens on. Policies come to istiod by one watch, in the order in which
they were written; so a sidecar whose configuration dump has the nonce has everything before it. A dump that
merely lacks a policy proves nothing.

Labels: the policy selects by all labels that the pod has now, so a label that was put on is proven with it;
for one that was taken off a second policy selects by it, written first, and must not be in the dump.

Other kinds come to istiod by other watches, of which the policy says nothing. They are waited for first, each
by its own sign (config_dump.py): a Service, DestinationRule or VirtualService by its name at every probed
sidecar, or by its absence where it was seen before; a change of one that has landed leaves no sign and is not
proven. A PeerAuthentication is proven by another one of ours, written last: a port-level mode of a port that
nobody has, which inherits all else. It is written only for workloads that no other one selects, because the
oldest of several holds and the rest are ignored. Those others are proven by their neighbours: istiod had it
before the policy was written, and their sidecars have the policy. Where several istiods serve one mesh, that
says nothing of another one's sidecars.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from conformance.barrier import Changes
from conformance.cluster.kube import Kube, ObjectKey
from conformance.config_dump import Shown, read_dump
from conformance.errors import ProbeError, SetupError
from conformance.evidence import Waited

__all__ = ["BARRIER_PORT", "PREFIX", "ConfigDump", "pilot_agent"]

API = ("security.istio.io/v1", "security.istio.io/v1beta1")
PREFIX = "barrier-"
BARRIER_PORT = "15"  # assigned to nobody, and no workload listens there
PAUSE = 0.05  # seconds between two dumps; one costs an exec
Labels = Mapping[str, str]
Dump = Callable[[str, float], str]  # (pod as namespace/name, deadline) -> the dump; raises ProbeError
Check = Callable[[Shown], str]  # what is missing in a dump, in words; empty = nothing
NAMED = ("Service", "DestinationRule", "VirtualService")
# A nonce of 40,000: the last one's chains may still be there, of other ports nobody has these.
FIRST_PORT, PORTS = 20000, 40000


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

    def __init__(
        self,
        kube: Kube,
        *,
        dump: Dump,
        awaited_kinds: Iterable[str],
        neighbours: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`neighbours`: all pods of the stage that have a sidecar, as namespace/name."""
        self._kube = kube
        self._neighbours = neighbours
        self._dump = dump
        self._kinds = frozenset(awaited_kinds)
        self._labels: dict[str, Labels] = {}  # of each pod when it was waited for last
        self._landed: dict[str, str] = {}  # resourceVersion of the objects of NAMED that were seen

    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        begun = time.monotonic()
        deadline = begun + timeout
        nonce = PREFIX + secrets.token_hex(4)
        made: list[ObjectKey] = []
        missing: list[str] = []
        told: list[str] = []
        try:
            missing += self._others(changes, nonce, pods, deadline, made, told)
            wanted, unwanted = self._apply(nonce, pods, made)
            for pod in pods:
                missing += self._await(pod, _policy(pod, wanted[pod], unwanted.get(pod)), deadline)
        except (SetupError, ProbeError) as error:
            missing.append(error.message)
        finally:
            missing += self._remove(made)
        touched = {key.kind for key in (*changes.written, *changes.deleted)}
        missing += [f"nothing tells of the landing of a {kind}" for kind in sorted(touched - self._kinds)]
        detail = f"{nonce} in the configuration of {', '.join(pods) or 'no sidecar (none is probed)'}"
        return Waited(
            strategy=self.strategy,
            landed=not missing,
            seconds=time.monotonic() - begun,
            detail="; ".join(missing or [detail, *told]),
        )

    def _others(
        self,
        changes: Changes,
        nonce: str,
        pods: Sequence[str],
        deadline: float,
        made: list[ObjectKey],
        told: list[str],
    ) -> list[str]:
        """Waits for the kinds that do not come with the policies. What is not proven, in words; what is goes
        to `told`. Raises SetupError."""
        missing: list[str] = []
        written = [key for key in changes.written if key.kind in NAMED and key.kind in self._kinds]
        deleted = [key for key in changes.deleted if key.kind in NAMED and key.kind in self._kinds]
        for key in [*written, *deleted]:
            missing += self._await_name(key, changes.written.get(key, ""), pods, deadline)
        if not missing:
            self._landed |= {str(key): changes.written[key] for key in written}
            for key in deleted:
                self._landed.pop(str(key), None)
            told += [f"{key.kind} {key.name} by its name" for key in written]
            told += [f"{key.kind} {key.name} by its absence" for key in deleted]
        if any(key.kind == "PeerAuthentication" for key in (*changes.written, *changes.deleted)):
            missing += self._await_peers(nonce, pods, deadline, made, told)
        return missing

    def _await_name(self, key: ObjectKey, version: str, pods: Sequence[str], deadline: float) -> list[str]:
        """`version`: its resourceVersion, or empty where it was deleted."""
        before = self._landed.get(str(key))
        if version and before not in (None, version):
            return [f"nothing tells of the landing of a change of {key}, which was there before"]
        if not version and before is None:
            return [f"{key} was never seen in a sidecar, so that its absence proves nothing"]
        sign = (key.kind, f"{key.namespace}/{key.name}")

        def check(shown: Shown) -> str:
            if (sign in shown.objects) is bool(version):
                return ""
            return f"{key} is {'not' if version else 'still'} in the configuration"

        return [why for pod in pods for why in self._await(pod, check, deadline)]

    def _await_peers(
        self, nonce: str, pods: Sequence[str], deadline: float, made: list[ObjectKey], told: list[str]
    ) -> list[str]:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        shown = [pod for pod in pods if not self._is_selected(pod)]
        if pods and not shown:
            shown = [next((pod for pod in self._neighbours() if not self._is_selected(pod)), "")]
        if shown == [""]:
            return [
                f"nothing tells of the landing of a PeerAuthentication at {', '.join(pods)}: one selects "
                "each of them, and all of their neighbours"
            ]
        for number, pod in enumerate(shown):
            # One of the two is another mode than that of the workload: a mesh may leave the other one out.
            modes = {str(port): {"mode": "STRICT"}, str(port + 1): {"mode": "DISABLE"}}
            spec = {"mtls": {"mode": "UNSET"}, "portLevelMtls": modes}
            labels = self._labels_of(pod)
            self._write(
                pod.partition("/")[0], f"{nonce}-{number}-mode", labels, made, "PeerAuthentication", spec
            )

        def check(found: Shown) -> str:
            seen = {port, port + 1} & found.inbound_ports
            return "" if seen else f"port {port} of {nonce} has no filter chain"

        told.append(f"PeerAuthentication by port {port} at {', '.join(shown) or 'no sidecar'}")
        if behind := [pod for pod in pods if pod not in shown]:
            told.append(f"and by what came after it at {', '.join(behind)}")
        return [why for pod in shown for why in self._await(pod, check, deadline)]

    def _is_selected(self, pod: str) -> bool:
        """Whether a PeerAuthentication has the pod by its labels. Raises SetupError."""
        version = self._version("PeerAuthentication")
        labels = self._labels_of(pod)
        items, _ = self._kube.list(version, "PeerAuthentication", namespace=pod.partition("/")[0])
        selectors = [
            ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {} for item in items
        ]
        return any(selector and selector.items() <= labels.items() for selector in selectors)

    def _version(self, kind: str) -> str:
        return next((version for version in API if self._kube.serves(version, kind)), API[0])

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
                unwanted[pod] = self._deny(namespace, f"{nonce}-{number}-gone", dict(gone), made)
            wanted[pod] = self._deny(namespace, f"{nonce}-{number}", labels, made)
            self._labels[pod] = labels
        return wanted, unwanted

    def _labels_of(self, pod: str) -> Labels:
        namespace, _, name = pod.partition("/")
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}}
        answer = self._kube.get(self._kube.key(document)).or_raise(f"read pod {pod}")
        return dict(answer.body["metadata"].get("labels") or {})

    def _deny(self, namespace: str, name: str, labels: Labels, made: list[ObjectKey]) -> str:
        spec = {"action": "DENY", "rules": [{"to": [{"operation": {"ports": [BARRIER_PORT]}}]}]}
        return self._write(namespace, name, labels, made, "AuthorizationPolicy", spec)

    def _write(
        self,
        namespace: str,
        name: str,
        labels: Labels,
        made: list[ObjectKey],
        kind: str,
        spec: Mapping[str, Any],
    ) -> str:
        document = {
            "apiVersion": self._version(kind),
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**spec, "selector": {"matchLabels": dict(labels)}},
        }
        made.append(self._kube.key(document))
        self._kube.create(document).or_raise(f"create {made[-1]}")
        return f"{namespace}/{name}"

    def _await(self, pod: str, check: Check, deadline: float) -> list[str]:
        """What is not proven at the deadline, in words."""
        why = ""
        while True:
            try:
                why = check(read_dump(self._dump(pod, deadline)))
                why = f"{pod}: {why}" if why else ""
            except (ProbeError, ValueError) as error:
                # A look that the deadline cut off says less than the one before it.
                if not why or time.monotonic() < deadline:
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


def _policy(pod: str, wanted: str, unwanted: str | None) -> Check:
    def check(shown: Shown) -> str:
        if wanted not in shown.policies:
            return f"{wanted} is not in the configuration of {pod}"
        return (
            "the pod is still selected by a label that it has no more" if unwanted in shown.policies else ""
        )

    return check
