"""What the oracle is asked about, and the shape of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = [
    "Authorizer",
    "Connection",
    "Decision",
    "Destination",
    "Identity",
    "Mesh",
    "PolicyFinding",
    "RuleFinding",
    "RuleName",
    "Shadow",
    "Source",
    "Undecided",
    "Verdict",
]


class Undecided(Exception):
    """The documents are valid, and what they mean depends on something that is not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """An external authorizer that the mesh configuration names, and what it says: a fact, never guessed.

    `denies`: the workload's ports that it denies connections to, None = not known. `answers` is False for one
    that is down; then `fail_open` tells. `grpc` False: it speaks HTTP, and is not asked about TCP."""

    denies: frozenset[int] | None = None
    grpc: bool = True
    answers: bool = True
    fail_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """`authorizers`: by the name of the provider; None = the mesh configuration is not known."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    aliases: tuple[str, ...] = ()
    authorizers: Mapping[str, Authorizer] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a peer is, once its certificate has been verified."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def principal(self) -> str:
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`meshed`: this client's sidecar offers mutual TLS on this path. By pod address it does not."""

    namespace: str
    service_account: str
    ip: str
    meshed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The workload, whatever address was dialled. `injected`: it has a sidecar, which alone enforces."""

    namespace: str
    ip: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)
    injected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    source: Source
    destination: Destination
    sni: str = ""  # what a TLS client names; nothing of it is left on plaintext


class Verdict(Enum):
    ALLOWED = "allowed"
    DENIED = "denied"
    REFUSED = "refused"  # by transport, before any policy is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleName:
    namespace: str
    name: str
    rule: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} rule {self.rule}"

    @property
    def key(self) -> str:
        """As proxies sort and show them; of several matching rules the first of these is named."""
        return f"ns[{self.namespace}]-policy[{self.name}]-rule[{self.rule}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFinding:
    """`reasons`: why it matched or did not, one statement each."""

    index: int
    matches: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFinding:
    """One policy that governs the destination, or one that does not, with the reason."""

    namespace: str
    name: str
    action: str
    dry_run: bool
    governs: bool
    why: str
    rules: tuple[RuleFinding, ...] = ()
    provider: str = ""  # of CUSTOM: the authorizer that it asks

    @property
    def matching(self) -> tuple[RuleName, ...]:
        return tuple(
            RuleName(namespace=self.namespace, name=self.name, rule=rule.index)
            for rule in self.rules
            if rule.matches
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What the dry-run policies of one action would have said, among themselves. `visible` is False where
    the proxy never comes to that filter, because CUSTOM or an enforced DENY ended the connection first."""

    allowed: bool
    matching: tuple[RuleName, ...]
    visible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`matching` are the rules that decided, in the order of `RuleName.key`; none for an ALLOW miss,
    for a workload that no policy governs and for a refusal by transport."""

    verdict: Verdict
    why: str
    matching: tuple[RuleName, ...] = ()
    policies: tuple[PolicyFinding, ...] = ()
    audited: tuple[RuleName, ...] = ()
    dry_run_allow: Shadow | None = None
    dry_run_deny: Shadow | None = None
    peer: Identity | None = None  # None on plaintext
