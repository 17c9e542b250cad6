"""From evidence to verdict. Pure: no clock, no cluster, no file.

A verdict says passed only where everything that makes it believable is there. What could not be asked, or
could have another cause than the mesh, is inconclusive: neither a pass nor a fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from conformance.evidence import AccessEntry, Controls, Kind, Observation, Outcome, Testimony

__all__ = [
    "ANY",
    "Decision",
    "Expected",
    "Failure",
    "Foretold",
    "Status",
    "Verdict",
    "is_breach",
    "judge",
    "judge_attribution",
    "judge_audit",
    "judge_counted",
    "judge_dry_run",
    "judge_foretold",
    "looks_right",
    "worst",
]


class Status(Enum):
    """Of a case or of one expectation."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"
    UNSUPPORTED = "unsupported"
    KNOWN_DEVIATION = "known-deviation"


class Failure(Enum):
    """What kind of failure. The value is what a reader sees."""

    EXPOSURE = "allowed but forbidden"
    DELIVERED = "a rejected client's bytes reached the application"
    OVER_BLOCKING = "over-blocking"
    WRONG_BACKEND = "answered by another workload than the named one"
    WRONG_REASON = "wrong reason"
    NOT_REFUSED = "not refused by validation"
    REFUSED = "refused by validation"
    WARNING = "wrong warnings"
    READ_BACK = "read back differently"
    RESTARTED = "other processes than before"
    MISCOUNTED = "counted otherwise than sent"
    NOT_RECOVERED = "still rejected after deletion"
    SUPPORTED = "declared unsupported and works"
    DEVIATION = "known deviation expired or fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    status: Status
    reason: str
    failure: Failure | None = None

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be, and how this mesh denies. `server_first`: the port speaks before its client does."""

    outcome: Outcome
    workload: str  # tcp-echo.foo
    line: str  # the line sent, its nonce included
    denials: frozenset[Kind]
    server_first: bool = False


ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which rule must have decided: `policy` (namespace/name) None = denied, as no ALLOW rule matched,
    ANY = it does not matter which."""

    denied: bool
    policy: str | None
    rule: int | None = None
    refused: bool = False  # by transport, before any policy was asked
    custom: bool = False  # it is a CUSTOM policy: an external authorizer has the word

    def describe(self) -> str:
        if self.refused:
            return "refused by PeerAuthentication, before any policy is asked"
        verb = "denied" if self.denied else "allowed"
        if self.policy is None:
            return f"{verb}, matched no policy"
        if self.policy == ANY:
            return f"{verb} by the workload's own data plane"
        return f"{verb} by {self.policy}" + ("" if self.rule is None else f" rule {self.rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What the oracle says of a connection. `outcome`: allowed, denied, or refused by transport. `deciders`:
    (namespace/name, rule), any one of which may be named; none = no policy is."""

    outcome: str
    deciders: tuple[tuple[str, int], ...]
    why: str
    custom: bool = False  # an external authorizer had the word

    def describe(self) -> str:
        rules = " or ".join(f"{policy} rule {rule}" for policy, rule in self.deciders)
        by = "" if self.outcome == "refused" else f" by {rules}" if rules else ", matched no policy"
        return f"{self.outcome}{by} ({self.why})"


UNREACHABLE_KINDS = frozenset({Kind.REFUSED, Kind.CLOSED, Kind.RESET, Kind.TIMED_OUT})
# From bad to good, for the worst of several. A breach outweighs missing evidence: it was seen.
GRAVITY = (
    Status.FAILED,
    Status.INCONCLUSIVE,
    Status.KNOWN_DEVIATION,
    Status.UNSUPPORTED,
    Status.SKIPPED,
    Status.PASSED,
)


def _passed(reason: str) -> Verdict:
    return Verdict(status=Status.PASSED, reason=reason)


def _failed(failure: Failure, reason: str) -> Verdict:
    return Verdict(status=Status.FAILED, reason=reason, failure=failure)


def _inconclusive(reason: str) -> Verdict:
    return Verdict(status=Status.INCONCLUSIVE, reason=reason)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest, the first of several equal ones; of none, inconclusive: nothing was asked."""
    ranked = sorted(verdicts, key=lambda verdict: GRAVITY.index(verdict.status))
    return ranked[0] if ranked else _inconclusive("nothing was asked")


def is_breach(expected: Expected, seen: Observation) -> bool:
    """Whether a connection got through that must not: at the client alone, without any control."""
    if expected.outcome is Outcome.SUCCEEDED:
        return False
    return seen.kind is Kind.ANSWERED or (seen.kind is Kind.BANNER and not _is_plain_banner(expected, seen))


def _is_plain_banner(expected: Expected, seen: Observation) -> bool:
    """A server-first backend's greeting, and nothing that answers the client."""
    return expected.server_first and "hello" not in seen.received


def looks_right(expected: Expected, seen: Observation) -> bool:
    """Whether one observation agrees with the expectation, before controls and testimony are looked at."""
    match expected.outcome:
        case Outcome.SUCCEEDED:
            return seen.kind is Kind.ANSWERED
        case Outcome.REJECTED:
            ended = seen.kind is not Kind.BANNER or seen.ended_by in ("fin", "rst")
            return seen.kind in expected.denials and ended and not is_breach(expected, seen)
        case Outcome.UNREACHABLE:
            return seen.kind in UNREACHABLE_KINDS


def judge(expected: Expected, seen: Observation, controls: Controls, testimony: Testimony) -> Verdict:
    """The verdict on one probe, from both ends' testimony and the controls."""
    if expected.outcome is Outcome.SUCCEEDED:
        return _judge_success(expected, seen, controls, testimony)
    return _judge_denial(expected, seen, controls, testimony)


def _judge_success(
    expected: Expected, seen: Observation, controls: Controls, testimony: Testimony
) -> Verdict:
    elsewhere = [workload for workload in testimony.seen_in if workload != expected.workload]
    if seen.kind is Kind.ANSWERED:
        if elsewhere:
            return _failed(Failure.WRONG_BACKEND, f"the nonce is in the log of {', '.join(elsewhere)}")
        if not testimony.complete:  # neither that the named one has it nor that no other has
            return _inconclusive(f"answered, but the backends' logs are not known: {testimony.why}")
        if expected.workload in testimony.seen_in:
            return _passed(f"{seen.describe()}, and the log of {expected.workload} alone has its nonce")
        return _failed(
            Failure.WRONG_BACKEND, f"answered, but the log of {expected.workload} does not have its nonce"
        )
    if seen.kind in (Kind.UNKNOWN, Kind.TIMED_OUT) or seen.kind not in expected.denials:
        return _inconclusive(f"{seen.describe()}: this mesh is not known to deny so")
    missing = _missing_control(controls)
    if missing:
        return _inconclusive(f"{seen.describe()}, but {missing}")
    delivered = " although its bytes reached the application" if testimony.seen_in else ""
    return _failed(Failure.OVER_BLOCKING, f"{seen.describe()}{delivered}")


def _judge_denial(expected: Expected, seen: Observation, controls: Controls, testimony: Testimony) -> Verdict:
    if is_breach(expected, seen):
        return _failed(Failure.EXPOSURE, seen.describe())
    if testimony.seen_in:
        where = ", ".join(testimony.seen_in)
        return _failed(Failure.DELIVERED, f"{seen.describe()}, but its bytes are in the log of {where}")
    if not looks_right(expected, seen):
        return _inconclusive(f"{seen.describe()}: this mesh is not known to deny so")
    missing = _missing_control(controls)
    if missing:
        return _inconclusive(f"{seen.describe()}, but {missing}")
    if not testimony.complete:
        return _inconclusive(f"{seen.describe()}, but absence in the logs is not proven: {testimony.why}")
    return _passed(f"{seen.describe()}, and no workload's log has a byte of it")


def _missing_control(controls: Controls) -> str:
    """Why a denial cannot be believed, in words; empty where every control holds."""
    for name, held in (
        ("the same path did not answer at baseline", controls.baseline),
        ("the backend does not answer inside its own pod", controls.bypass),
    ):
        if held is not True:
            said = name if held is False else f"{name} (not performed)"
            return f"{said}: {controls.why}" if controls.why else said
    if controls.recovery is False:
        return f"the path did not come back after deletion: {controls.why}"
    return ""


def judge_attribution(decision: Decision, entries: Sequence[AccessEntry], *, wanted: int) -> Verdict:
    """Whether the mesh names the rule that must have decided, for every one of `wanted` connections."""
    if not entries:
        return _inconclusive("the access log does not tell who decided")
    for entry in entries:
        same_policy = decision.policy in (ANY, entry.policy or None)
        same_rule = decision.rule is None or entry.rule == decision.rule
        if entry.authorizer and not entry.policy:
            # Istio's log tells that an authorizer denied it, and not for which policy.
            same_policy = same_rule = decision.custom or decision.policy == ANY
        # A refusal before the policies is a denial, but never the one that a policy promises.
        promised = (decision.denied and decision.policy == ANY) or decision.refused
        if not entry.refused:
            promised = same_policy and same_rule and not decision.refused
        denied = entry.denied or bool(entry.refused)
        if denied is not decision.denied or not promised:
            return _failed(Failure.WRONG_REASON, f"{entry.describe()}; it must be {decision.describe()}")
    if len(entries) < wanted:
        return _inconclusive(f"the access log tells of {len(entries)} of {wanted} connections")
    return _passed(entries[0].describe())


def judge_foretold(foretold: Foretold, entries: Sequence[AccessEntry], *, wanted: int) -> Verdict:
    """Whether the mesh names a decider that the oracle names, for every one of `wanted` connections. A log
    that does not name the rule of an allowed connection is asked for denials only."""
    if not entries:
        return _inconclusive(f"the access log does not tell who decided; the oracle: {foretold.describe()}")
    for entry in entries:
        outcome = "refused" if entry.refused else "denied" if entry.denied else "allowed"
        named = {(entry.policy, entry.rule)} - {("", None)}
        told = outcome != "refused" and (outcome == "denied" or entry.names_allows)
        agrees = named <= set(foretold.deciders) and bool(named) is bool(foretold.deciders)
        if entry.authorizer and not named:
            agrees = foretold.custom  # Istio's log tells that an authorizer denied it, not for which policy
        if outcome != foretold.outcome or (told and not agrees):
            kind = "allowed" if outcome == "allowed" else "denied"
            return _failed(
                Failure.WRONG_REASON,
                f"{kind} for the wrong reason: {entry.describe()}; the oracle: {foretold.describe()}",
            )
    if len(entries) < wanted:
        return _inconclusive(f"the access log tells of {len(entries)} of {wanted} connections")
    return _passed(entries[0].describe())


def judge_counted(wanted: Mapping[str, int], moved: Mapping[str, int], absent: Collection[str]) -> Verdict:
    """Whether a sidecar's counters moved by as much as they must in one sweep. `absent`: those that it does
    not have, which proves nothing."""
    if absent:
        names = ", ".join(sorted(absent))
        return _inconclusive(f"the sidecar has no counter {names}; its proxyStatsMatcher must include rbac")
    for name, count in wanted.items():
        if moved[name] != count:
            said = f"by the sidecar's counters, {name} moved by {moved[name]}, it must be {count}"
            if moved[name] > count:
                return _inconclusive(f"{said}: somebody else was counted, too")
            return _failed(Failure.WRONG_REASON, f"denied for the wrong reason: {said}")
    return _passed("the counters moved as they must; they do not tell which rule decided")


def judge_audit(policy: str | None, entries: Sequence[AccessEntry]) -> Verdict:
    """Whether the data plane shows which AUDIT policy matched: namespace/name, None = none did."""
    if not entries:
        return _inconclusive("the access log does not tell what was audited")
    for entry in entries:
        if (entry.audited_by or None) != policy:
            told, wanted = entry.audited_by or "no policy", policy or "no policy"
            return _failed(Failure.WRONG_REASON, f"audited by {told}, it must be {wanted}")
    return _passed("the audit is as promised")


def judge_dry_run(
    wanted_allow: str | None,
    wanted_deny: str | None,
    policy: str | None,
    entries: Sequence[AccessEntry],
    *,
    wanted: int,
) -> Verdict:
    """Whether the data plane shows the shadow results, for every one of `wanted` connections. `policy` is
    namespace/name, None = not asserted."""
    if not entries:
        return _inconclusive("the access log does not tell the dry-run results")
    for entry in entries:
        for name, must, shown in (
            ("allow", wanted_allow, entry.dry_run_allow),
            ("deny", wanted_deny, entry.dry_run_deny),
        ):
            if must is not None and shown != must:
                told = shown or "nothing"
                return _failed(Failure.WRONG_REASON, f"dry-run {name}: {told} is shown, it must be {must}")
        named = {entry.dry_run_allow_policy, entry.dry_run_deny_policy} - {""}
        if policy is not None and policy not in named:
            told = ", ".join(sorted(named)) or "no policy"
            return _failed(Failure.WRONG_REASON, f"dry-run names {told}, it must be {policy}")
    if len(entries) < wanted:
        return _inconclusive(f"the access log tells of {len(entries)} of {wanted} connections")
    return _passed("the dry-run results are as promised")
