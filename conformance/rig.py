"""The rig of one worker: its namespaces and workloads on a cluster, and everything kept open to them.

Prober sessions are opened when first needed; the logs of every backend are followed from the start, because
absence from them is part of every verdict.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from conformance.attribution import AccessBook, Path
from conformance.barrier import Barrier
from conformance.cluster.kube import Kube, ObjectKey
from conformance.cluster.ready import wait_for_pods
from conformance.errors import ProbeError, SetupError
from conformance.followed_logs import FollowedLogs, Source
from conformance.logbook import LogBook, json_lines
from conformance.pods import Pod, Processes, pod_key, pods_by_workload, processes_of
from conformance.probe.session import Session
from conformance.probers import Probers
from conformance.profile import UNAVAILABLE, Profile
from conformance.topology import WORKLOADS, Names, Ref, Workload
from conformance.verdict import Verdict

if TYPE_CHECKING:
    from conformance.exposure import Watch
    from conformance.sweep import Lane

__all__ = ["Rig"]


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
        self._probers = Probers(kube)
        self._logs = FollowedLogs(kube)
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
        self._seen: dict[Ref, Processes] = {}  # what ran when `replaced` was asked last
        self._mute = False  # a log that is open owed a line
        with ThreadPoolExecutor(max_workers=len(self.backends)) as pool:
            # From now on: what was logged before, of the preflight's connections, belongs to no case.
            list(pool.map(partial(self._follow, tail=0), [backend.ref for backend in self.backends]))

    @property
    def backends(self) -> list[Workload]:
        return [workload for workload in self._workloads.values() if workload.ports]

    def _follow(self, ref: Ref, *, tail: int | None = None) -> None:
        sources = [(ref.name, json_lines(self.logbook.reader(str(ref)))), *self._of_sidecar(ref)]
        self._logs.follow(ref, self.pods[ref], sources, tail=tail)

    def _of_sidecar(self, ref: Ref) -> list[Source]:
        if not self.pods[ref].sidecar or "access-log" not in self.profile.attribution:
            return []
        return [(self.profile.sidecar_container, self.access.reader(str(ref)))]

    def follow_new_sidecar(self, ref: Ref) -> None:
        """After the backend's sidecar was started again: its access log is another one."""
        self._write_off(ref)
        self._seen.pop(ref, None)
        self._logs.follow_sidecar(ref, self.pods[ref], self._of_sidecar(ref))

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
        return self._probers.session(ref, self.pods[ref], self.profile.deadlines.ready)

    def session_in_use(self, ref: Ref) -> Session:
        """The session that was started, broken or not."""
        return self._probers.in_use(ref)

    def open_sessions(self, refs: Iterable[Ref]) -> dict[Ref, str]:
        """Opens several at once, so that a sweep waits for the slowest and not for the sum. Which could not
        be opened, and why."""
        missing = self._probers.missing(refs)
        failed: dict[Ref, str] = {}
        if missing:
            with ThreadPoolExecutor(max_workers=len(missing)) as pool:
                for ref, future in [(ref, pool.submit(self.session, ref)) for ref in missing]:
                    try:
                        future.result()
                    except ProbeError as error:
                        failed[ref] = error.message
        return failed

    def silent_backends(self) -> list[str]:
        """Backends whose log has ended, or is not read, so that it proves nothing any more."""
        return [str(one.ref) for one in self.backends if not self._logs.own_is_read(one.ref)]

    def await_log(self, nonces: Mapping[str, str], *, deadline: float) -> set[str]:
        """As `LogBook.wait_for`. Where a log that is open owes a line, all are opened anew before the next
        case."""
        missing = self.logbook.wait_for(nonces, deadline=deadline)
        self._mute = self._mute or bool(missing)
        return missing

    def silent_sidecars(self) -> list[str]:
        """Backends whose sidecar's access log has ended, so that nobody tells any more who decided."""
        return [str(one.ref) for one in self.backends if not self._logs.sidecars_are_read(one.ref)]

    def heal(self) -> None:
        """Before a case: what ended since the last one is opened anew, where others restarted or replaced
        a pod for one. Raises SetupError where a workload does not come back."""
        silent = {Ref.parse(name) for name in (*self.silent_backends(), *self.silent_sidecars())}
        if self._mute:
            silent |= {backend.ref for backend in self.backends}  # nobody knows which others are
        broken = self._probers.broken()
        if not silent and not broken and not self._probers.lost:
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
        self._mute = self._probers.lost = self._given_up = False

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
        return {ref: processes_of(self.kube, self.pods[ref]) for ref in refs}

    def restart(self, ref: Ref) -> Pod:
        """Deletes the workload's pod and waits for the next one. Raises SetupError."""
        old = self.pods[ref]
        self._drop(ref)
        self._seen.pop(ref, None)
        self._write_off(ref)
        self.kube.delete(pod_key(self.kube, old)).or_raise(f"delete pod {old.key}")

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
        self._probers.drop(ref)
        self._logs.drop(ref)

    def forget(self) -> None:
        """Before a case: nothing of earlier ones is looked for again."""
        self.settle()
        self.logbook.forget()
        self.access.forget(self._told())
        self.sent.clear()
        self.watch = None
        self._probers.forget()
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
        for key in self.arrived():
            self.kube.delete(key)

    def arrived(self) -> list[ObjectKey]:
        """What stands there of the writes without an answer. In a namespace that is lent an object of that
        name may be others', which is why the write failed. Raises SetupError."""
        answers = {key: self.kube.get(key) for key in self.unanswered}
        bounds = self.kube.bounds
        return [key for key, now in answers.items() if now.ok and (bounds is None or bounds.owns(now.body))]

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
        for ref in self._probers.refs() | self._logs.refs():
            self._drop(ref)

    def close(self) -> None:
        self.close_streams()
        self.barrier.close()
