"""The sessions that are open to the probers in the workloads."""

from __future__ import annotations

import time
from collections.abc import Iterable

from conformance.cluster.exec import open_exec
from conformance.cluster.kube import Kube
from conformance.errors import ProbeError
from conformance.pods import Pod
from conformance.probe.session import CLIENT_COMMAND, Session
from conformance.topology import Ref

__all__ = ["Probers"]


class Probers:
    """One session a workload, opened when first needed and again when it is broken. Different workloads'
    may be opened by several threads at once."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._sessions: dict[Ref, Session] = {}
        self.lost = False  # one could not be started
        self._in_vain: dict[Ref, str] = {}  # of this case: those that were waited for, and why

    def session(self, ref: Ref, pod: Pod, patience: float) -> Session:
        """The prober in that workload's pod, ready within `patience` seconds. Raises ProbeError where it
        cannot be started."""
        session = self._sessions.get(ref)
        if session is not None and not session.broken:
            return session
        if session is not None:
            session.close()
        if ref in self._in_vain:
            raise ProbeError(self._in_vain[ref])
        begun = time.monotonic()
        try:
            session = self._open(ref, pod, patience)
        except ProbeError as error:
            self.lost = True
            if time.monotonic() - begun >= min(self._kube.timeout, patience):
                self._in_vain[ref] = error.message  # a case waits once
            raise
        self._sessions[ref] = session
        return session

    def _open(self, ref: Ref, pod: Pod, patience: float) -> Session:
        stream = open_exec(
            self._kube,
            namespace=pod.namespace,
            pod=pod.name,
            container=ref.name,
            command=CLIENT_COMMAND,
            what=f"prober in {ref}",
        )
        session = Session(stream, str(ref))
        try:
            session.boot(patience)
        except ProbeError:
            session.close()
            raise
        return session

    def forget(self) -> None:
        """Before a case: what was waited for in vain is waited for again."""
        self._in_vain.clear()

    def in_use(self, ref: Ref) -> Session:
        """The session that was started, broken or not."""
        return self._sessions[ref]

    def missing(self, refs: Iterable[Ref]) -> list[Ref]:
        """Those of the workloads to which no session is open."""
        return [ref for ref in refs if ref not in self._sessions or self._sessions[ref].broken]

    def broken(self) -> set[Ref]:
        """The workloads whose session has ended by itself."""
        return {ref for ref, session in self._sessions.items() if session.broken}

    def refs(self) -> set[Ref]:
        """The workloads that have a session."""
        return set(self._sessions)

    def drop(self, ref: Ref) -> None:
        """Closes the session, if there is one; the workload's next pod is waited for."""
        self._in_vain.pop(ref, None)
        session = self._sessions.pop(ref, None)
        if session is not None:
            session.close()
