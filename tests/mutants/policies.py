"""Mutants of what whole policies and rules mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal

from enforcer import policy as policies_module
from enforcer import rbac
from enforcer.attributes import Layer
from enforcer.policy import Action, Condition, Policy, Rule
from tests.mutants.seams import around, compile_as, compile_rules_as, instead, mutant

NOWHERE = Condition(key="destination.port", layer=Layer.TCP, values=("0",))
NOBODY = Condition(key="source.ip", layer=Layer.TCP, values=("192.0.2.1",))


def of(action: Action, change: Callable[[Policy], Policy]) -> Callable[[Sequence[Policy]], Sequence[Policy]]:
    return lambda policies: [change(policy) if policy.action is action else policy for policy in policies]


def has_http(rule: Rule) -> bool:
    clauses = (*rule.sources, *rule.operations, rule.when)
    return any(condition.layer is Layer.HTTP for clause in clauses for condition in clause)


@mutant
def allow_rules_lost() -> None:
    """ALLOW policies arrive without their rules."""
    compile_as(of(Action.ALLOW, lambda policy: replace(policy, rules=())))


@mutant
def allow_without_rules_ignored() -> None:
    """An ALLOW policy without rules is no policy."""
    compile_as(lambda policies: [p for p in policies if p.rules or p.action is not Action.ALLOW])


@mutant
def empty_rule_matches_nothing() -> None:
    """An empty rule is left out."""
    compile_as(
        lambda policies: [
            replace(policy, rules=tuple(rule for rule in policy.rules if rule != Rule()))
            for policy in policies
        ]
    )


@mutant
def absent_action_is_deny() -> None:
    """A policy without an action is a DENY policy."""

    @around(policies_module, "_action")
    def _action(original: Any, spec: Mapping[str, object], problems: Any) -> Any:
        return Action.DENY if spec.get("action") is None else original(spec, problems)


@mutant
def empty_list_matches_nothing() -> None:
    """An empty from or to is a list of alternatives of which there is none."""

    @around(policies_module, "_rule")
    def _rule(original: Any, item: Any, path: str, problems: Any) -> Any:
        rule = original(item, path, problems)
        empty = isinstance(item, Mapping) and [] in (item.get("from"), item.get("to"))
        return replace(rule, operations=((NOWHERE,),)) if empty else rule


@mutant
def absent_from_matches_nobody() -> None:
    """A rule without from has no source that could match."""
    compile_rules_as(lambda rule: rule if rule.sources else replace(rule, sources=((NOBODY,),)))


@mutant
def no_spec_is_no_policy() -> None:
    """An object without a spec is left aside."""

    @around(policies_module, "parse")
    def _parse(original: Any, document: Mapping[str, object]) -> Any:
        parsed = original(document)
        return parsed if document.get("spec") else replace(parsed, targets_gateway=True)


@mutant
def deny_alone_closes() -> None:
    """Where DENY policies are and no ALLOW policy, everything is denied."""

    def close(policies: Sequence[Policy]) -> Sequence[Policy]:
        alone = policies and all(policy.action is Action.DENY and not policy.dry_run for policy in policies)
        return [*policies, Policy(namespace="none", name="none")] if alone else policies

    compile_as(close)


@mutant
def first_allow_wins() -> None:
    """Of several ALLOW policies only the first counts."""

    def first(policies: Sequence[Policy]) -> Sequence[Policy]:
        allowing = [policy for policy in policies if policy.action is Action.ALLOW and not policy.dry_run]
        return [policy for policy in policies if policy not in allowing[1:]]

    compile_as(first)


@mutant
def demands_are_alternatives() -> None:
    """Of the conditions of one entry one is enough."""
    permissions: Any = rbac._PERMISSIONS
    principals: Any = rbac._PRINCIPALS
    instead(rbac, "_PERMISSIONS", replace(permissions, every=permissions.some))
    instead(rbac, "_PRINCIPALS", replace(principals, every=principals.some))


@mutant
def values_must_all_match() -> None:
    """The values of one field must all match."""
    permissions: Any = rbac._PERMISSIONS
    principals: Any = rbac._PRINCIPALS
    instead(
        rbac,
        "_PERMISSIONS",
        replace(permissions, some=lambda parts: Permission(and_rules=Permission.Set(rules=parts))),
    )
    instead(
        rbac,
        "_PRINCIPALS",
        replace(principals, some=lambda parts: Principal(and_ids=Principal.Set(ids=parts))),
    )


@mutant
def first_value_only() -> None:
    """Only the first value of each field counts."""

    def narrow(condition: Condition) -> Condition:
        return replace(condition, values=condition.values[:1], not_values=condition.not_values[:1])

    compile_rules_as(
        lambda rule: replace(
            rule,
            sources=tuple(tuple(map(narrow, clause)) for clause in rule.sources),
            operations=tuple(tuple(map(narrow, clause)) for clause in rule.operations),
            when=tuple(map(narrow, rule.when)),
        )
    )


@mutant
def rules_are_merged() -> None:
    """All rules of a policy are read as one."""

    def merge(policy: Policy) -> Policy:
        rule = Rule(
            sources=tuple(clause for rule in policy.rules for clause in rule.sources),
            operations=tuple(clause for rule in policy.rules for clause in rule.operations),
            when=tuple(condition for rule in policy.rules for condition in rule.when),
        )
        return replace(policy, rules=(rule,)) if policy.rules else policy

    compile_as(lambda policies: [merge(policy) for policy in policies])


@mutant
def audit_denies() -> None:
    """AUDIT blocks what it matches."""
    compile_as(of(Action.AUDIT, lambda policy: replace(policy, action=Action.DENY)))


@mutant
def http_rule_drops_its_policy() -> None:
    """One ignored ALLOW rule takes the other rules of its policy with it."""
    compile_as(
        of(
            Action.ALLOW,
            lambda policy: replace(policy, rules=()) if any(map(has_http, policy.rules)) else policy,
        )
    )


@mutant
def http_entry_dropped_alone() -> None:
    """In ALLOW only the entry with HTTP-only fields is dropped, its siblings stay."""

    def keep(rule: Rule) -> Rule:
        def tcp(clauses: tuple[Any, ...]) -> tuple[Any, ...]:
            kept = tuple(c for c in clauses if all(condition.layer is not Layer.HTTP for condition in c))
            return kept or clauses

        return replace(rule, sources=tcp(rule.sources), operations=tcp(rule.operations))

    compile_as(of(Action.ALLOW, lambda policy: replace(policy, rules=tuple(map(keep, policy.rules)))))


@mutant
def http_deny_rule_dropped() -> None:
    """A DENY rule with an HTTP-only field is ignored, as an ALLOW rule is."""
    compile_as(
        of(
            Action.DENY,
            lambda policy: replace(policy, rules=tuple(r for r in policy.rules if not has_http(r))),
        )
    )


@mutant
def http_audit_rule_dropped() -> None:
    """An AUDIT rule with an HTTP-only field is ignored, as an ALLOW rule is."""
    compile_as(
        of(
            Action.AUDIT,
            lambda policy: replace(policy, rules=tuple(r for r in policy.rules if not has_http(r))),
        )
    )


@mutant
def http_deny_entry_dropped() -> None:
    """In DENY an entry with only HTTP fields is dropped while a sibling is left."""

    def keep(rule: Rule) -> Rule:
        def some(clauses: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(c for c in clauses if any(d.layer is not Layer.HTTP for d in c)) or clauses

        return replace(rule, sources=some(rule.sources), operations=some(rule.operations))

    compile_as(of(Action.DENY, lambda policy: replace(policy, rules=tuple(map(keep, policy.rules)))))


@mutant
def wrong_rule_named() -> None:
    """A decision names the rule after the one that matched."""

    @around(rbac, "policy_id")
    def _policy_id(original: Any, policy: Policy, rule: int) -> Any:
        return original(policy, rule + 1)


@mutant
def allowed_by_a_policy_of_its_own() -> None:
    """Where no ALLOW policy governs, everything is allowed by one that nobody wrote: the same outcome."""
    everything = Policy(namespace="mesh", name="open", rules=(Rule(),))
    compile_as(
        lambda policies: (
            policies if any(policy.action is Action.ALLOW for policy in policies) else [*policies, everything]
        )
    )
