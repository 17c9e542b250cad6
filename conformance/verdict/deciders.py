"""The verdict on who decided: what access log or counters tell against what must be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from conformance.evidence import AccessEntry
from conformance.verdict.status import Failure, Verdict, failed, inconclusive, passed

__all__ = [
    "ANY",
    "Decision",
    "Foretold",
    "judge_attribution",
    "judge_audit",
    "judge_counted",
    "judge_dry_run",
    "judge_foretold",
]


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


def judge_attribution(decision: Decision, entries: Sequence[AccessEntry], *, wanted: int) -> Verdict:
    """Whether the mesh names the rule that must have decided, for every one of `wanted` connections."""
    if not entries:
        return inconclusive("the access log does not tell who decided")
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
            return failed(Failure.WRONG_REASON, f"{entry.describe()}; it must be {decision.describe()}")
    if len(entries) < wanted:
        return inconclusive(f"the access log tells of {len(entries)} of {wanted} connections")
    return passed(entries[0].describe())


def judge_foretold(foretold: Foretold, entries: Sequence[AccessEntry], *, wanted: int) -> Verdict:
    """Whether the mesh names a decider that the oracle names, for every one of `wanted` connections. A log
    that does not name the rule of an allowed connection is asked for denials only."""
    if not entries:
        return inconclusive(f"the access log does not tell who decided; the oracle: {foretold.describe()}")
    for entry in entries:
        outcome = "refused" if entry.refused else "denied" if entry.denied else "allowed"
        named = {(entry.policy, entry.rule)} - {("", None)}
        told = outcome != "refused" and (outcome == "denied" or entry.names_allows)
        agrees = named <= set(foretold.deciders) and bool(named) is bool(foretold.deciders)
        if entry.authorizer and not named:
            agrees = foretold.custom  # Istio's log tells that an authorizer denied it, not for which policy
        if outcome != foretold.outcome or (told and not agrees):
            kind = "allowed" if outcome == "allowed" else "denied"
            return failed(
                Failure.WRONG_REASON,
                f"{kind} for the wrong reason: {entry.describe()}; the oracle: {foretold.describe()}",
            )
    if len(entries) < wanted:
        return inconclusive(f"the access log tells of {len(entries)} of {wanted} connections")
    return passed(entries[0].describe())


def judge_counted(wanted: Mapping[str, int], moved: Mapping[str, int], absent: Collection[str]) -> Verdict:
    """Whether a sidecar's counters moved by as much as they must in one sweep. `absent`: those that it does
    not have, which proves nothing."""
    if absent:
        names = ", ".join(sorted(absent))
        return inconclusive(f"the sidecar has no counter {names}; its proxyStatsMatcher must include rbac")
    for name, count in wanted.items():
        if moved[name] != count:
            said = f"by the sidecar's counters, {name} moved by {moved[name]}, it must be {count}"
            if moved[name] > count:
                return inconclusive(f"{said}: somebody else was counted, too")
            return failed(Failure.WRONG_REASON, f"denied for the wrong reason: {said}")
    return passed("the counters moved as they must; they do not tell which rule decided")


def judge_audit(policy: str | None, entries: Sequence[AccessEntry]) -> Verdict:
    """Whether the data plane shows which AUDIT policy matched: namespace/name, None = none did."""
    if not entries:
        return inconclusive("the access log does not tell what was audited")
    for entry in entries:
        if (entry.audited_by or None) != policy:
            told, wanted = entry.audited_by or "no policy", policy or "no policy"
            return failed(Failure.WRONG_REASON, f"audited by {told}, it must be {wanted}")
    return passed("the audit is as promised")


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
        return inconclusive("the access log does not tell the dry-run results")
    for entry in entries:
        for name, must, shown in (
            ("allow", wanted_allow, entry.dry_run_allow),
            ("deny", wanted_deny, entry.dry_run_deny),
        ):
            if must is not None and shown != must:
                told = shown or "nothing"
                return failed(Failure.WRONG_REASON, f"dry-run {name}: {told} is shown, it must be {must}")
        named = {entry.dry_run_allow_policy, entry.dry_run_deny_policy} - {""}
        if policy is not None and policy not in named:
            told = ", ".join(sorted(named)) or "no policy"
            return failed(Failure.WRONG_REASON, f"dry-run names {told}, it must be {policy}")
    if len(entries) < wanted:
        return inconclusive(f"the access log tells of {len(entries)} of {wanted} connections")
    return passed("the dry-run results are as promised")
