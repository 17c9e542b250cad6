"""The fixed stage on which every scenario plays, in logical names, and how they become real names.

Three namespaces: `foo` and `bar` are injected, `legacy` has no sidecars. See docs/writing-a-scenario.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile

__all__ = ["NAMESPACES", "SERVICES", "WORKLOADS", "Names", "Ref", "Service", "Workload", "find_service"]

NAMESPACES = ("foo", "bar", "legacy")
# Real names must differ at both ends, so that ${foo:head}* and *${foo:tail} select one namespace each.
TAILS = {"foo": "uno", "bar": "due", "legacy": "tre"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Ref:
    """`sleep.foo`: a workload or Service by its name and logical namespace."""

    name: str
    namespace: str

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Raises ValueError unless the text is `name.namespace` with a namespace of the topology."""
        name, dot, namespace = text.rpartition(".")
        if not dot or not name or namespace not in NAMESPACES:
            raise ValueError(f"{text!r} is not name.namespace with one of {', '.join(NAMESPACES)}")
        return cls(name=name, namespace=namespace)

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Deployment of one container named as the workload itself. `ports` are what it listens on."""

    name: str
    namespace: str
    ports: tuple[int, ...] = ()

    @property
    def ref(self) -> Ref:
        return Ref(name=self.name, namespace=self.namespace)

    @property
    def injected(self) -> bool:
        return self.namespace != "legacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service and its map port -> the workload's port."""

    name: str
    workload: str
    ports: Mapping[int, int] = field(default_factory=dict)


ECHO_PORTS = (9000, 9001, 9002, 9003)
SERVER_FIRST_PORTS = frozenset({9003})

WORKLOADS: Mapping[Ref, Workload] = {
    workload.ref: workload
    for workload in (
        Workload(name="tcp-echo", namespace="foo", ports=ECHO_PORTS),
        Workload(name="sleep", namespace="foo"),
        Workload(name="sleep-b", namespace="foo"),
        Workload(name="sleep-dot", namespace="foo"),
        Workload(name="sleep", namespace="bar"),
        Workload(name="tcp-echo", namespace="bar", ports=ECHO_PORTS),
        Workload(name="sleep", namespace="legacy"),
        Workload(name="tcp-echo", namespace="legacy", ports=ECHO_PORTS),
    )
}

SERVICES: Mapping[str, Service] = {
    "tcp-echo": Service(name="tcp-echo", workload="tcp-echo", ports={9000: 9000, 9001: 9001, 9003: 9003}),
    "tcp-echo-alt": Service(name="tcp-echo-alt", workload="tcp-echo", ports={80: 9000}),
}


def find_service(ref: Ref) -> tuple[Service, Workload] | None:
    """The Service of that name and the workload behind it, where the namespace has it."""
    service = SERVICES.get(ref.name)
    if service is None:
        return None
    workload = WORKLOADS.get(Ref(name=service.workload, namespace=ref.namespace))
    return (service, workload) if workload else None


def _shared_start(one: str, other: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Logical to real namespace names of one worker of one run."""

    run: str
    worker: str
    root: str  # the mesh's root namespace
    given: Mapping[str, str] = field(default_factory=dict)  # real names by logical ones, where they are set

    def real(self, namespace: str) -> str:
        if namespace in self.given:
            return self.given[namespace]
        return f"{namespace}-{self.run}{self.worker}-{TAILS[namespace]}"

    def head(self, namespace: str) -> str:
        """A true prefix of the real name that the other namespaces do not begin with; see `unsplit`."""
        if namespace in self.given:
            return self.given[namespace][: self._cut(namespace)]
        return f"{namespace}-{self.run}"

    def tail(self, namespace: str) -> str:
        """A true suffix of it that they do not end with; head and tail do not overlap."""
        if namespace in self.given:
            return self.given[namespace][self._cut(namespace) :]
        return f"{self.worker}-{TAILS[namespace]}"

    def _cut(self, namespace: str) -> int:
        """Where the first letter ends that tells a given name from the others."""
        others = [self.real(name) for name in NAMESPACES if name != namespace]
        shared = max(len(_shared_start(self.real(namespace), other)) for other in others)
        return shared + 1

    def unsplit(self) -> list[str]:
        """Logical namespaces whose given names have no such prefix and suffix: no wildcard selects them."""
        return [
            name
            for name in self.given
            if not self.tail(name)
            or any(self.real(other).endswith(self.tail(name)) for other in NAMESPACES if other != name)
        ]

    def logical(self, real: str) -> str:
        """The logical name of a real one; other namespaces keep theirs."""
        return next((name for name in NAMESPACES if self.real(name) == real), real)
