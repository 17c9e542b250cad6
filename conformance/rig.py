"""The rig of one worker: its namespaces and workloads on a cluster, and everything kept open to them.

Prober sessions are opened when first needed; the logs of every backend are followed from the start, because
absence from them is part of every verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from conformance.attribution import AccessBook, Path
from conformance.barrier import Barrier
from conformance.cluster.exec import open_exec
from conformance.cluster.kube import Kube, ObjectKey, log_lines
from conformance.cluster.ready import has_sidecar, is_ready, wait_for_pods
from conformance.errors import ProbeError, SetupError
from conformance.logbook import LogBook, Tail, json_lines
from conformance.probe.session import CLIENT_COMMAND, Session
from conformance.profile import UNAVAILABLE, Profile
from conformance.topology import SERVICES, WORKLOADS, Names, Ref, Workload
from conformance.verdict import Verdict

if TYPE_CHECKING:
    from conformance.exposure import Watch
    from conformance.sweep import Lane

__all__ = ["Rig", "Pod", "pods_by_workload"]


# The pod's uid, and (containerID, restartCount) by container.
Processes = tuple[str, dict[str, tuple[str, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A workload's pod. `address` is its IP, `address6` its IPv6 one or empty; `namespace` the real one."""

    name: str
    namespace: str
    address: str
    sidecar: bool
    labels: Mapping[str, str]
    address6: str = ""

    def address_of(self, via: str) -> str:
        """Its address on a path of that kind: a connection has one family at both ends."""
        return self.address6 if via == "pod6" else self.address

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def pods_by_workload(names: Names, pods: list[dict[str, Any]], profile: Profile) -> dict[Ref, Pod]:
    """Ready pods of the topology's workloads, by the label `app`."""
    found: dict[Ref, Pod] = {}
    for pod in pods:
        metadata = pod["metadata"]
        labels = metadata.get("labels") or {}
        ref = Ref(name=str(labels.get("app", "")), namespace=names.logical(metadata["namespace"]))
        if ref in WORKLOADS and is_ready(pod):
            found[ref] = Pod(
                name=metadata["name"],
                namespace=metadata["namespace"],
                address=pod["status"]["podIP"],
                address6=next((ip for ip in pod_ips(pod) if ":" in ip), ""),
                sidecar=has_sidecar(pod, profile.sidecar_container),
                labels=labels,
            )
    return found


def pod_ips(pod: Mapping[str, Any]) -> list[str]:
    """All addresses of a pod, the primary one first."""
    status = pod["status"]
    return [str(entry["ip"]) for entry in status.get("podIPs") or [{"ip": status["podIP"]}]]


class Rig:
    """Everything a case needs, made by `stage.open_rig`. Used by one thread."""

    def __init__(
        self,
        *,
        kube: Kube,
        profile: Profile,
        names: Names,
        pods: dict[Ref, Pod],
        services: Mapping[Ref, str],
        barrier: Barrier,
        workloads: Mapping[Ref, Workload] = WORKLOADS,
    ) -> None:
        self.kube = kube
        self.profile = profile
        self.names = names
        self.pods = pods
        self.services = services
        self.barrier = barrier
        self._workloads = workloads
        self.logbook = LogBook()
        self.access = AccessBook()
        # How deciders are known: access-log, counters or unavailable; see `attributing.settle_attribution`.
        self.attribution = next(iter(profile.attribution), UNAVAILABLE)
        self.sent: dict[tuple[str, str, int], int] = {}  # connections per path of the access book
        self.has_authorizer = False  # brought by the first case that needs it
        self.leftovers: list[ObjectKey] = []  # of earlier cases, that could not be deleted
        self.watch: Watch | None = None  # the exposure watch that is on
        self.watched: list[tuple[Lane, str]] = []  # the probes of this case's watches, by nonce
        self.exposed: list[Verdict] = []  # what this case's watches found
        self.unanswered: dict[ObjectKey, None] = {}  # may still be written, or may have been
        self._given_up = False  # a workload did not come back
        self._lost = False  # a prober could not be started
        self._seen: dict[Ref, Processes] = {}  # what ran when `replaced` was asked last
        self._sessions: dict[Ref, Session] = {}
        self._tails: dict[Ref, list[Tail]] = {}
        with ThreadPoolExecutor(max_workers=len(self.backends)) as pool:
            # From now on: what was logged before, of the preflight's connections, belongs to no case.
            list(pool.map(partial(self._follow, tail=0), [backend.ref for backend in self.backends]))

    @property
    def backends(self) -> list[Workload]:
        return [workload for workload in self._workloads.values() if workload.ports]

    def _follow(self, ref: Ref, *, tail: int | None = None) -> None:
        pod = self.pods[ref]
        sources = [(ref.name, json_lines(self.logbook.reader(str(ref))))]
        if pod.sidecar and "access-log" in self.profile.attribution:
            sources.append((self.profile.sidecar_container, self.access.reader(str(ref))))
        for container, read in sources:
            self._tails.setdefault(ref, []).append(self._tail(ref, container, read, tail=tail))

    def _tail(
        self, ref: Ref, container: str, read: Callable[[bytes], None], *, tail: int | None = None
    ) -> Tail:
        pod = self.pods[ref]
        response = self.kube.open_log(namespace=pod.namespace, pod=pod.name, container=container, tail=tail)

        def end() -> None:
            # The reader's thread owns the response; shutting its socket down ends the reading.
            with suppress(RuntimeError, OSError, ValueError):  # it has ended by itself meanwhile
                response.shutdown()

        return Tail(log_lines(response), read=read, end=end, name=f"{ref} {container}")

    def follow_new_sidecar(self, ref: Ref) -> None:
        """After the backend's sidecar was started again: its access log is another one."""
        self._write_off(ref)
        self._seen.pop(ref, None)
        if "access-log" in self.profile.attribution:
            backend, *sidecars = self._tails[ref]
            for tail in sidecars:
                tail.close()
            container = self.profile.sidecar_container
            self._tails[ref] = [backend, self._tail(ref, container, self.access.reader(str(ref)))]

    def _write_off(self, ref: Ref) -> None:
        """What the old sidecar has not told, nobody will."""
        for path in self.sent:
            if path[0] == str(ref):
                self.sent[path] = self.access.count(path)
        self.access.write_off(str(ref))

    def host(self, target: Ref, via: str) -> str:
        """What a prober connects to: the pod's address, or the Service's name."""
        if via != "service":
            return self.pods[target].address_of(via)
        return f"{target.name}.{self.names.real(target.namespace)}"

    def why_not(self, features: Iterable[str]) -> str:
        """Why a case with these features cannot be asked here, whatever the profile says; empty: it can."""
        without = sorted(str(ref) for ref, pod in self.pods.items() if not pod.address6)
        if "ipv6" in features and without:
            return f"ipv6: {len(without)} of {len(self.pods)} pods have no IPv6 address, {without[0]} for one"
        return ""

    def session(self, ref: Ref) -> Session:
        """The prober in that workload. Raises ProbeError where it cannot be started."""
        session = self._sessions.get(ref)
        if session is not None and not session.broken:
            return session
        if session is not None:
            session.close()
        try:
            return self._open_session(ref)
        except ProbeError:
            self._lost = True
            raise

    def _open_session(self, ref: Ref) -> Session:
        pod = self.pods[ref]
        stream = open_exec(
            self.kube,
            namespace=pod.namespace,
            pod=pod.name,
            container=ref.name,
            command=CLIENT_COMMAND,
            what=f"prober in {ref}",
        )
        session = Session(stream, str(ref))
        try:
            session.boot(self.profile.deadlines.ready)
        except ProbeError:
            session.close()
            raise
        self._sessions[ref] = session
        return session

    def session_in_use(self, ref: Ref) -> Session:
        """The session that was started, broken or not."""
        return self._sessions[ref]

    def open_sessions(self, refs: set[Ref]) -> None:
        """Opens several at once, so that a first sweep waits for the slowest and not for the sum."""
        missing = [ref for ref in refs if ref not in self._sessions or self._sessions[ref].broken]
        if missing:
            with ThreadPoolExecutor(max_workers=len(missing)) as pool:
                for future in [pool.submit(self.session, ref) for ref in missing]:
                    with suppress(ProbeError):  # told again, as UNKNOWN, by the sweep that needs it
                        future.result()

    def silent_backends(self) -> list[str]:
        """Backends whose log has ended, so that it proves nothing any more."""
        return [str(ref) for ref, tails in self._tails.items() if tails[0].ended.is_set()]

    def silent_sidecars(self) -> list[str]:
        """Backends whose sidecar's access log has ended, so that nobody tells any more who decided."""
        return [
            str(ref) for ref, tails in self._tails.items() if any(one.ended.is_set() for one in tails[1:])
        ]

    def heal(self) -> None:
        """Before a case: what ended since the last one is opened anew, where others restarted or replaced
        a pod for one. Raises SetupError where a workload does not come back."""
        silent = {Ref.parse(name) for name in (*self.silent_backends(), *self.silent_sidecars())}
        broken = {ref for ref, session in self._sessions.items() if session.broken}
        if not silent and not broken and not self._lost:
            return
        # Waited for once: a workload that is gone for good must not cost every case that long.
        patience = 0.0 if self._given_up else self.profile.deadlines.ready
        deadline = time.monotonic() + patience
        found = {
            ref: pod
            for namespace in {ref.namespace for ref in self.pods}
            for ref, pod in self._await_workloads(namespace, deadline).items()
        }
        moved = {ref for ref, pod in self.pods.items() if found[ref].name != pod.name}
        self.pods |= found
        for ref in moved | broken | silent:
            self._drop(ref)
            if ref in {backend.ref for backend in self.backends}:
                # From now on: what was logged before belongs to no case to come, and is owed no more.
                self._write_off(ref)
                self._follow(ref, tail=0)
        self._lost = self._given_up = False

    def _await_workloads(self, namespace: str, deadline: float) -> dict[Ref, Pod]:
        """The ready pods of the workloads of a namespace. Raises SetupError where one does not come."""
        wanted = {ref for ref in self.pods if ref.namespace == namespace}
        found: dict[Ref, Pod] = {}

        def done(pods: list[dict[str, Any]]) -> bool:
            found.clear()
            found.update(pods_by_workload(self.names, pods, self.profile))
            return wanted <= found.keys()

        try:
            wait_for_pods(
                self.kube, self.names.real(namespace), done=done, deadline=deadline, what="", ran_before=True
            )
        except SetupError as error:
            if wanted <= found.keys():
                raise
            self._given_up = True
            gone = ", ".join(map(str, sorted(wanted - found.keys())))
            raise SetupError(f"no ready pod of {gone}, which ran before{error.message}") from None
        return found

    def replaced(self, refs: Iterable[Ref]) -> list[str]:
        """Workloads of these that run as other pods or containers than when this was asked last, in words.
        Raises SetupError where a pod cannot be read."""
        now = self.processes(refs)
        before, self._seen = self._seen, self._seen | now
        return [
            f"{container} of {ref}"
            for ref, (uid, containers) in now.items()
            for container, ran in containers.items()
            if ref in before and (before[ref][0], before[ref][1].get(container)) != (uid, ran)
        ]

    def processes(self, refs: Iterable[Ref]) -> dict[Ref, Processes]:
        """Which processes run the workloads now. Raises SetupError where a pod cannot be read."""
        found: dict[Ref, Processes] = {}
        for ref in refs:
            pod = self.pods[ref]
            metadata = {"name": pod.name, "namespace": pod.namespace}
            key = self.kube.key({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
            body = self.kube.get(key).or_raise(f"read pod {pod.key}").body
            containers = {
                item["name"]: (item.get("containerID", ""), item.get("restartCount", 0))
                for part in ("initContainerStatuses", "containerStatuses")
                for item in body["status"].get(part) or []
            }
            found[ref] = (body["metadata"]["uid"], containers)
        return found

    def restart(self, ref: Ref) -> Pod:
        """Deletes the workload's pod and waits for the next one. Raises SetupError."""
        old = self.pods[ref]
        self._drop(ref)
        self._seen.pop(ref, None)
        self._write_off(ref)
        key = self.kube.key(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": old.name, "namespace": old.namespace}}
        )
        self.kube.delete(key).or_raise(f"delete pod {old.key}")

        def done(pods: list[dict[str, Any]]) -> bool:
            fresh = pods_by_workload(self.names, pods, self.profile).get(ref)
            return fresh is not None and fresh.name != old.name

        deadline = time.monotonic() + self.profile.deadlines.ready
        pods = wait_for_pods(
            self.kube, old.namespace, done=done, deadline=deadline, what=f"the new pod of {ref}"
        )
        self.pods[ref] = pods_by_workload(self.names, pods, self.profile)[ref]
        if ref in {backend.ref for backend in self.backends}:
            self._follow(ref)
        return self.pods[ref]

    def _drop(self, ref: Ref) -> None:
        session = self._sessions.pop(ref, None)
        if session is not None:
            session.close()
        for tail in self._tails.pop(ref, []):
            tail.close()

    def forget(self) -> None:
        """Before a case: nothing of earlier ones is looked for again."""
        self.settle()
        self.logbook.forget()
        self.access.forget(self._told())
        self.sent.clear()
        self.watch = None
        self.watched.clear()
        self.exposed.clear()
        self._seen.clear()

    def clear(self) -> None:
        """Deletes what earlier cases left behind. Raises SetupError where it still cannot be deleted: a
        case that ran beside it would blame the mesh, or praise it, for another case's policy."""
        while self.leftovers:
            answer = self.kube.delete(self.leftovers[0])
            if answer.code != 404:
                answer.or_raise(f"an earlier case's {self.leftovers[0]} cannot be deleted")
            self.leftovers.pop(0)
        for key in self.unanswered:
            self.kube.delete(key)

    def settle(self) -> None:
        """Before a step and after a case: the access logs are read to their end, as far as there is one, so
        that no late line looks like a new one."""
        silent = self.silent_sidecars()
        told = {path: sent for path, sent in self._told().items() if path[0] not in silent}
        # As long as it takes: a line that came in the next case would be taken for one of its own.
        self.access.wait_for(told, deadline=time.monotonic() + self.profile.deadlines.attribution)

    def recount(self) -> None:
        """After connections of which some may have reached nobody: the access logs owe nothing for them, and
        a late entry is known by its start."""
        self.settle()
        self.access.forget(self._told())
        self.sent.clear()

    def _told(self) -> dict[Path, int]:
        """Connections made, as far as an access log tells of them."""
        if self.attribution != "access-log":
            return {}
        return {path: sent for path, sent in self.sent.items() if not path[0].endswith(".legacy")}

    def overdue(self) -> frozenset[Path]:
        """The paths whose log owes entries of connections made until now, so that of what comes next it
        cannot be said whose it is."""
        missing = {path for path, sent in self._told().items() if self.access.count(path) < sent}
        return frozenset(missing) | self.access.unsure()

    def close_streams(self) -> None:
        """Sessions and logs; for a rig whose barrier is another's."""
        for ref in list(self._sessions.keys() | self._tails.keys()):
            self._drop(ref)

    def close(self) -> None:
        self.close_streams()
        self.barrier.close()


def service_addresses(kube: Kube, names: Names, namespaces: tuple[str, ...]) -> dict[Ref, str]:
    """ClusterIPs of the topology's Services. Raises SetupError where one is missing."""
    found: dict[Ref, str] = {}
    for namespace in namespaces:
        services, _ = kube.list("v1", "Service", namespace=names.real(namespace))
        for service in services:
            name = service["metadata"]["name"]
            if name in SERVICES:
                found[Ref(name=name, namespace=namespace)] = str(service["spec"].get("clusterIP", ""))
        for name in SERVICES:
            if Ref(name=name, namespace=namespace) not in found:
                raise SetupError(f"the Service {name} is missing in {names.real(namespace)}")
    return found
