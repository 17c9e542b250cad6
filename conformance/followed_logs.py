"""The logs of the backends, followed from the start: absence from them is part of every verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from conformance.cluster.kube import Kube
from conformance.cluster.logs import end_log, log_lines, open_log
from conformance.errors import SetupError
from conformance.logbook import Tail
from conformance.pods import Pod
from conformance.topology import Ref

__all__ = ["FollowedLogs", "Source"]

Source = tuple[str, Callable[[bytes], None]]
"""A container, and what reads each line of its log."""


class FollowedLogs:
    """For each backend its own log, and its sidecar's where that tells who decided. Different backends' may
    be opened by several threads at once."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._tails: dict[Ref, list[Tail]] = {}

    def follow(self, ref: Ref, pod: Pod, sources: Sequence[Source], *, tail: int | None = None) -> None:
        """The backend's own log first. `tail`: how many of the lines that are there; None = all. Raises
        SetupError."""
        self._tails[ref] = self._opened(ref, pod, sources, tail)

    def follow_sidecar(self, ref: Ref, pod: Pod, sources: Sequence[Source]) -> None:
        """Other logs of the sidecar instead of those that are followed. Raises SetupError."""
        own, *sidecars = self._tails[ref]
        for tail in sidecars:
            tail.close()
        self._tails[ref] = [own, *self._opened(ref, pod, sources, None)]

    def _opened(self, ref: Ref, pod: Pod, sources: Sequence[Source], tail: int | None) -> list[Tail]:
        tails: list[Tail] = []
        try:
            for container, read in sources:
                response = open_log(
                    self._kube, namespace=pod.namespace, pod=pod.name, container=container, tail=tail
                )
                end = partial(end_log, response)
                tails.append(Tail(log_lines(response), read=read, end=end, name=f"{ref} {container}"))
        except SetupError:
            for one in tails:  # all of them or none: what is not followed shows as silent
                one.close()
            raise
        return tails

    def own_is_read(self, ref: Ref) -> bool:
        """Whether the backend's own log is open and has not ended."""
        return ref in self._tails and not self._tails[ref][0].ended.is_set()

    def sidecars_are_read(self, ref: Ref) -> bool:
        """Whether its sidecar's are, as far as they were asked for."""
        return ref in self._tails and not any(tail.ended.is_set() for tail in self._tails[ref][1:])

    def refs(self) -> set[Ref]:
        """The backends that have logs open."""
        return set(self._tails)

    def drop(self, ref: Ref) -> None:
        """Closes them, if there are any."""
        for tail in self._tails.pop(ref, []):
            tail.close()
