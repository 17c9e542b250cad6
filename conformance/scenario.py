"""A scenario: one case as data. The types; `scenario_reader` makes them from files.

The format is described in docs/writing-a-scenario.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from conformance.evidence import Outcome
from conformance.topology import WORKLOADS, Ref, Workload, find_service

__all__ = [
    "FEATURES",
    "VIA",
    "By",
    "Change",
    "ChangeKind",
    "Document",
    "DryRun",
    "Expectation",
    "Level",
    "Reading",
    "Refusal",
    "Relabel",
    "Scenario",
    "Step",
]

# What a scenario may need beyond the core, and what the words mean. A profile declares which it has.
FEATURES: Mapping[str, str] = {
    "mesh-wide": "touches the mesh's root namespace, so it runs alone",
    "dry-run": "trial mode with visible shadow results",
    "mtls": "workload identities and mutual TLS",
    "peer-authentication": "PeerAuthentication is honoured",
    "routing": "VirtualService and DestinationRule on TCP",
    "audit": "action AUDIT",
    "custom": "action CUSTOM with the external authorizers that docs/writing-a-scenario.md names",
    "new-namespaces": "the suite may make and delete namespaces of its own",
    "own-control-plane": "the control plane may be stopped by the suite",
    "proxy-admin": "a sidecar's administration can be asked from its own container",
    "ipv6": "pods have IPv6 addresses; where those of the run have none, its cases are unsupported",
    "trust-domain-alias": "alias.example is an alias of the mesh's trust domain",
    "ztunnel": "the data plane is ztunnel (ambient)",
    "sni": "connection.sni of TLS traffic",
}

# What a client connects to, and how a path is told by it.
VIA: Mapping[str, str] = {"service": "", "pod": " by pod IP", "pod6": " by pod IPv6"}


class Level(Enum):
    CORE = "core"
    EXTENDED = "extended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One manifest of the file, as written. `number` counts the documents of the same kind and name."""

    kind: str
    name: str
    number: int
    body: Mapping[str, Any]
    line: int

    @property
    def label(self) -> str:
        return self.name if self.number == 1 else f"{self.name}#{self.number}"

    def answers_to(self, selector: str) -> bool:
        """Whether `name`, `name#2`, `Kind/name` or `Kind/name#2` means this document."""
        base, mark, number = selector.partition("#")
        kind, slash, name = base.rpartition("/")
        wanted = int(number) if mark and number.isdigit() else 1
        return name == self.name and wanted == self.number and (not slash or kind == self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Which rule must have decided. `policy` None = denied because no ALLOW rule matched.
    `peer_authentication`: refused by transport, before any policy was asked."""

    policy: str | None
    namespace: str = "${foo}"
    rule: int | None = None
    peer_authentication: bool = False

    def describe(self) -> str:
        if self.peer_authentication:
            return "PeerAuthentication"
        if self.policy is None:
            return "no ALLOW rule matched"
        return self.policy if self.rule is None else f"{self.policy} rule {self.rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Shadow results that the data plane must show; None = not asserted."""

    allow: str | None = None
    deny: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One row of a step's truth table. `ports` are the Service's where `target` is a Service."""

    source: Ref
    target: Ref
    ports: tuple[int, ...]
    outcome: Outcome
    via: str = "service"  # of VIA
    by: By | None = None
    dry_run: DryRun | None = None
    audited: By | None = None  # by which AUDIT policy; its own `policy` None = by none
    dataplane: str | None = None
    line: int = 0

    def workload(self) -> Workload:
        """The workload behind the target. Raises KeyError where the topology has none."""
        found = find_service(self.target) if self.via == "service" else None
        return found[1] if found else WORKLOADS[self.target]

    def workload_port(self, port: int) -> int:
        found = find_service(self.target) if self.via == "service" else None
        return found[0].ports[port] if found else port


class ChangeKind(Enum):
    """What a step does before it looks."""

    NONE = "none"
    APPLY = "apply"
    DELETE = "delete"
    LABEL = "label"
    PATCH = "patch"
    RESTART = "restart"
    READ = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relabel:
    workload: Ref
    put: Mapping[str, str]
    remove: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Reads a document's object in an API version and compares values at dotted paths."""

    document: str
    version: str
    equals: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`documents` are selectors (apply, delete, patch), empty for the other kinds."""

    kind: ChangeKind
    documents: tuple[str, ...] = ()
    relabel: Relabel | None = None
    patch: Mapping[str, Any] | None = None
    restart: Ref | None = None
    reading: Reading | None = None

    def describe(self) -> str:
        match self.kind:
            case ChangeKind.LABEL if self.relabel:
                return f"label {self.relabel.workload}"
            case ChangeKind.RESTART:
                return f"restart {self.restart}"
            case ChangeKind.READ if self.reading:
                return f"read {self.reading.document} as {self.reading.version}"
            case ChangeKind.NONE:
                return "look"
            case _:
                return f"{self.kind.value} {', '.join(self.documents)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API must refuse. `message` is a part of its text, asserted where the profile says so."""

    codes: tuple[int, ...]  # any of them: a schema answers 422, a webhook 400
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    change: Change
    expect: tuple[Expectation, ...]
    refused: Refusal | None
    warnings: tuple[str, ...] | None  # None = not asserted, () = there must be none
    unchanged: tuple[Ref, ...]  # run as the same processes since the baseline
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    id: str  # group/name, from the file's place; group/name[row] for a row of a family
    file: Path
    title: str
    requirements: tuple[str, ...]
    level: Level
    features: tuple[str, ...]
    steps: tuple[Step, ...]
    documents: tuple[Document, ...]
    one_sided: str = ""
    line: int = 1  # of the case, or of its row

    @property
    def group(self) -> str:
        return self.id.partition("/")[0]

    @property
    def mesh_wide(self) -> bool:
        return "mesh-wide" in self.features

    def document(self, selector: str) -> Document:
        """Raises KeyError for a selector that names none; `scenario_reader` has checked them."""
        for document in self.documents:
            if document.answers_to(selector):
                return document
        raise KeyError(selector)
