"""What can be observed about one connection, as plain data.

Shared by the rooms that gather evidence (probe, attribution), the one that judges it (verdict) and the
one that keeps it (record). No behaviour beyond small derived facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["AccessEntry", "Controls", "Kind", "Observation", "Outcome", "Testimony", "Waited"]


class Outcome(Enum):
    """What a scenario may promise about a connection."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"


class Kind(Enum):
    """How a connection went, as its client saw it."""

    ANSWERED = "answered"  # the full answer to our own line came back
    CLOSED = "closed"  # FIN, and not one byte before it
    RESET = "reset"  # RST, and not one byte before it
    REFUSED = "refused"  # RST in answer to the SYN: nobody listens
    TIMED_OUT = "timed_out"  # neither answer nor end within the deadline
    BANNER = "banner"  # bytes came, but not the answer to our line
    UNKNOWN = "unknown"  # the prober could not ask; `why` says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One probe as its client saw it. Times are milliseconds since the connect call."""

    kind: Kind
    received: str = ""
    why: str = ""
    sent_bytes: int = 0
    ended_by: str = ""  # fin | rst | deadline | us | ""
    address: str = ""
    opened_at: float = 0.0  # Unix seconds by the client's clock
    connect_ms: float | None = None
    first_byte_ms: float | None = None
    end_ms: float | None = None

    def describe(self) -> str:
        """In words, with the way the connection ended."""
        phase = "after its first byte was sent" if self.sent_bytes else "before a byte was sent"
        match self.kind:
            case Kind.ANSWERED:
                return f"answered {self.received.rstrip()!r}"
            case Kind.CLOSED:
                return f"closed (FIN) {phase}"
            case Kind.RESET:
                return f"reset (RST) {phase}"
            case Kind.REFUSED:
                return "refused at connect"
            case Kind.TIMED_OUT:
                return f"timed out: {self.why}" if self.why else "timed out"
            case Kind.BANNER:
                return f"received {self.received!r} but no answer, ended by {self.ended_by or 'nothing'}"
            case Kind.UNKNOWN:
                return f"unknown: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What the backends' own logs say of one probe.

    `seen_in` names workloads (tcp-echo.foo) that logged the probe's nonce, or a beginning of its line.
    `complete` is true when the log of every backend was read beyond its marker, so that absence counts;
    `why` explains where it is not.
    """

    seen_in: tuple[str, ...]
    complete: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntry:
    """One inbound connection as the sidecar's access log tells it."""

    workload: str
    source_ip: str
    destination_port: int
    denied: bool
    policy: str = ""  # namespace/name
    rule: int | None = None
    dry_run_allow: str = ""  # allowed | denied | "" (not told)
    dry_run_deny: str = ""
    dry_run_allow_policy: str = ""
    dry_run_deny_policy: str = ""
    audited_by: str = ""  # namespace/name of the AUDIT policy that matched
    refused: str = ""  # why the connection was closed before any policy was asked
    authorizer: str = ""  # how an external authorizer ended it: ext_authz_denied | ext_authz_error
    termination_details: str = ""
    started: float | None = None  # by the sidecar's clock, Unix seconds; None = not told
    names_allows: bool = True  # whether this log names the rule of an allowed connection

    def describe(self) -> str:
        if self.refused:
            return f"refused before any policy was asked: {self.refused}"
        verb = "denied" if self.denied else "allowed"
        if self.authorizer:
            verb = f"denied by an external authorizer ({self.authorizer})"
            return f"{verb} for {self.policy} rule {self.rule}" if self.policy else verb
        if not self.policy:
            told = self.denied or self.names_allows
            return f"{verb}, matched no policy" if told else f"{verb}, by which rule is not told"
        rule = "" if self.rule is None else f" rule {self.rule}"
        return f"{verb} by {self.policy}{rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What makes a denial believable. `None` = not performed (yet); the text says why a control failed."""

    baseline: bool | None
    bypass: bool | None
    recovery: bool | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """A proof, or the lack of it, that a step's changes have landed."""

    strategy: str
    landed: bool
    seconds: float
    detail: str
