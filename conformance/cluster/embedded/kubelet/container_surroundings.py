"""What a container has of its pod and node: the runtime, the pod's facts, restarts, the time to end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.cluster.embedded.kubelet.environment import Lookup, PodFacts
from conformance.cluster.embedded.node.runtime import Mount, Runtime

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Seconds between restarts: the first restart is at once, then first, doubling up to last."""

    first: float = 1.0
    last: float = 30.0

    def delay(self, restarts: int) -> float:
        """Before the restart that follows so many earlier ones."""
        return 0.0 if restarts == 0 else float(min(self.last, self.first * 2 ** min(restarts - 1, 20)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container needs of its pod."""

    runtime: Runtime
    facts: PodFacts
    mounts: Callable[[Object], tuple[Mount, ...]]  # of this container spec; raises ConfigError
    lookup: Lookup
    event: Callable[[str, str, str], None]  # (container, reason, message)
    changed: Callable[[bool], None]  # True: others wait for this change
    back_off: BackOff


def grace_of(pod: Object) -> float:
    """Seconds that the pod's containers have to end."""
    metadata, spec = pod["metadata"], pod["spec"]
    for seconds in (metadata.get("deletionGracePeriodSeconds"), spec.get("terminationGracePeriodSeconds")):
        if seconds is not None:
            return float(seconds)
    return 30.0
