"""PeerAuthentication: whether a workload's ports take mutual TLS, plaintext or both. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from enforcer.documents import Problems, as_mapping, quote, read_selector
from enforcer.errors import PolicyError

_UNSET = "UNSET"
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


class Mode(Enum):
    STRICT = "STRICT"
    """Mutual TLS only."""
    PERMISSIVE = "PERMISSIVE"
    """Mutual TLS and plaintext."""
    DISABLE = "DISABLE"
    """Plaintext only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """What a workload takes: `ports` by its own port numbers, ascending, where it differs from `default`."""

    default: Mode = Mode.PERMISSIVE
    ports: Mapping[int, Mode] = field(default_factory=dict)

    def at(self, port: int) -> Mode:
        return self.ports.get(port, self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthentication:
    namespace: str
    name: str
    created: str = ""
    """RFC 3339, as the API wrote it."""
    selector: Mapping[str, str] | None = None
    """Labels a pod must carry; None or empty = every pod of the namespace."""
    mode: Mode | None = None
    """None = unset: what the next wider level says."""
    ports: Mapping[int, Mode | None] = field(default_factory=dict)
    """None = unset: what the workload's mode says."""
    problems: tuple[str, ...] = ()
    """What is wrong with the document, one sentence each, starting with the field."""


def read(document: Mapping[str, object]) -> PeerAuthentication:
    """The object of a document, and everything that is wrong with it. Never raises.

    A document with problems that is in the API all the same admits nobody without mutual TLS: STRICT, on
    every port, and for the whole namespace where its selector is what cannot be read.
    """
    problems: Problems = []
    metadata = as_mapping(document.get("metadata"), "metadata", problems)
    spec = as_mapping(document.get("spec"), "spec", problems, known=("selector", "mtls", "portLevelMtls"))
    selector = read_selector(spec, problems)
    mode = _mode(spec.get("mtls"), "spec.mtls", problems)
    ports = _ports(spec, problems)
    if ports and not selector:
        problems.append(
            PolicyError("spec.portLevelMtls", "needs a selector with labels; ports belong to a workload")
        )
    return PeerAuthentication(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        created=str(metadata.get("creationTimestamp", "")),
        selector=selector,
        mode=Mode.STRICT if problems else mode,
        ports={} if problems else ports,
        problems=tuple(map(str, problems)),
    )


def modes_for(
    policies: Iterable[PeerAuthentication],
    *,
    namespace: str,
    labels: Mapping[str, str],
    root_namespace: str,
) -> Modes:
    """The modes of a pod with these labels in this namespace.

    Levels, from wide to narrow: mesh (root namespace, no labels selected), namespace, workload (labels
    selected), port. The narrowest that is set wins; on one level only the oldest object counts, even where it
    is unset. A selector in the root namespace reaches the pods of every namespace.
    """
    mesh: list[PeerAuthentication] = []
    own: list[PeerAuthentication] = []
    workload: list[PeerAuthentication] = []
    for policy in policies:
        if policy.namespace not in (namespace, root_namespace):
            continue
        if not policy.selector:
            (mesh if policy.namespace == root_namespace else own).append(policy)
        elif policy.selector.items() <= labels.items():
            workload.append(policy)
    default = Mode.PERMISSIVE
    ports: dict[int, Mode] = {}
    for level in (mesh, own, workload):
        oldest = min(level, key=lambda policy: (policy.created, policy.name, policy.namespace), default=None)
        if oldest is not None:
            default = oldest.mode or default
            ports = {port: mode for port, mode in sorted(oldest.ports.items()) if mode}
    return Modes(default=default, ports={port: mode for port, mode in ports.items() if mode is not default})


def _mode(mtls: object, path: str, problems: Problems) -> Mode | None:
    written = as_mapping(mtls, path, problems, known=("mode",)).get("mode")
    if written is None or written == _UNSET:
        return None
    try:
        return Mode(written)
    except ValueError:
        known = ", ".join((_UNSET, *(mode.value for mode in Mode)))
        problems.append(PolicyError(f"{path}.mode", f"{quote(written)} is not one of {known}"))
        return None


def _ports(spec: Mapping[str, object], problems: Problems) -> dict[int, Mode | None]:
    path = "spec.portLevelMtls"
    written = spec.get("portLevelMtls")
    if written is None:
        return {}
    ports: dict[int, Mode | None] = {}
    for port, mtls in as_mapping(written, path, problems).items():
        if not _PORT.fullmatch(str(port)) or int(port) > 65535:
            problems.append(PolicyError(path, f"{quote(port)} is not a port (1..65535)"))
        else:
            ports[int(port)] = _mode(mtls, f"{path}[{port}]", problems)
    if written == {}:
        problems.append(PolicyError(path, "is empty; name at least one port, or leave it away"))
    return ports
