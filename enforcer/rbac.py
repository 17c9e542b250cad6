"""Policies of one workload -> Envoy's network RBAC filters.

Semantics of a set of rules: Envoy's envoy.config.rbac.v3.RBAC. Its policies are a map that Envoy walks in the
order of the ids' bytes, so of several matching rules the first in that order is the one it names.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Principal
from envoy.config.rbac.v3.rbac_pb2 import Policy as RbacPolicy
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRbac
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

from enforcer import ext_authz, identity_matchers
from enforcer.attributes import Layer
from enforcer.ext_authz import RULE_PREFIX
from enforcer.identity_matchers import meant
from enforcer.mesh import Trust
from enforcer.policy import Action, Clause, Condition, Policy, Rule
from enforcer.providers import Provider

FILTER_NAME = "envoy.filters.network.rbac"
STAT_PREFIX = "tcp."
"""Counters: tcp.rbac.{allowed,denied} and, with a shadow prefix, tcp.rbac.<it>.shadow_{allowed,denied}."""

DRY_RUN_ALLOW_PREFIX = "istio_dry_run_allow_"
DRY_RUN_DENY_PREFIX = "istio_dry_run_deny_"
AUDIT_PREFIX = "audit_"
ATTRIBUTION_PREFIX = "attribution_"
CUSTOM_PREFIX = "istio_ext_authz_"

UNUSABLE = "-deny-due-to-bad-CUSTOM-action"
"""Ends the names of CUSTOM rules that deny because there is nobody to ask."""
NO_PROVIDERS: Mapping[str, Provider] = {}

METADATA_NAMESPACE = FILTER_NAME
"""Connection metadata that the filters leave for the access log stands here, under the keys below.
Results are `allowed` or `denied`; policies are ids as of `policy_id`, absent where nothing matched."""

_RESULT, _POLICY = "shadow_engine_result", "shadow_effective_policy_id"
ALLOWED_BY = ATTRIBUTION_PREFIX + _POLICY
AUDITED_BY = AUDIT_PREFIX + _POLICY
ASKED_BY = CUSTOM_PREFIX + _POLICY
DRY_RUN_ALLOW_RESULT = DRY_RUN_ALLOW_PREFIX + _RESULT
DRY_RUN_ALLOW_POLICY = DRY_RUN_ALLOW_PREFIX + _POLICY
DRY_RUN_DENY_RESULT = DRY_RUN_DENY_PREFIX + _RESULT
DRY_RUN_DENY_POLICY = DRY_RUN_DENY_PREFIX + _POLICY


def policy_id(policy: Policy, rule: int) -> str:
    """The name by which Envoy, the access log and `rbac_access_denied_matched_policy[...]` know a rule."""
    name = f"ns[{policy.namespace}]-policy[{policy.name}]-rule[{rule}]"
    return f"{RULE_PREFIX}{policy.provider}-{name}" if policy.action is Action.CUSTOM else name


def network_filters(
    policies: Sequence[Policy], *, trust: Trust, providers: Mapping[str, Provider] = NO_PROVIDERS
) -> list[Filter]:
    """The filters of a workload that these policies govern, to stand before tcp_proxy; none = open.

    Order: CUSTOM, AUDIT, DENY, ALLOW, attribution. Enforced policies are a filter's rules, dry-run ones its
    shadow rules, which count and log but never close. One set of policies always gives the same bytes.
    `providers`: the external authorizers that can be found, by name.

    The same filters serve connections with and without mutual TLS: without it the peer has no identity, so
    what asks for one never matches, and what excludes one does.
    """
    plan = [_fail_closed(policy) for policy in policies]
    rules = partial(_rules, plan, trust)
    allow = rules(Action.ALLOW, dry_run=False)
    filters = [
        # Shadow rules, because plain ones of action LOG do not tell which policy matched. Trial or not, an
        # AUDIT policy only ever reports.
        _filter(rules=None, shadow_rules=rules(Action.AUDIT), shadow_prefix=AUDIT_PREFIX),
        _filter(
            rules=rules(Action.DENY, dry_run=False),
            shadow_rules=rules(Action.DENY, dry_run=True),
            shadow_prefix=DRY_RUN_DENY_PREFIX,
        ),
        _filter(
            rules=allow,
            shadow_rules=rules(Action.ALLOW, dry_run=True),
            shadow_prefix=DRY_RUN_ALLOW_PREFIX,
        ),
        # Only admitted connections come past the ALLOW filter: its copy names what admitted them.
        _filter(rules=None, shadow_rules=allow, shadow_prefix=ATTRIBUTION_PREFIX),
    ]
    enforced = [item for item in filters if item is not None]
    return [*_custom_filters(plan, trust, providers), *enforced]


def _custom_filters(
    policies: Sequence[Policy], trust: Trust, providers: Mapping[str, Provider]
) -> list[Filter]:
    """The filters of the CUSTOM policies: one that finds their rules, and one that asks the authorizer.

    As in Istio a workload has one authorizer; where its policies name several, or one that cannot be found,
    what their rules match is denied. One that speaks HTTP is never asked on TCP, and nothing is denied.
    """
    rules = _rules(policies, trust, Action.CUSTOM)
    named = {policy.provider for policy in policies if policy.action is Action.CUSTOM}
    provider = providers.get(next(iter(named))) if len(named) == 1 else None
    if rules is None or (provider is not None and not provider.grpc):
        return []
    if provider is None:
        unusable = RBAC(
            action=RBAC.DENY, policies={f"{name}{UNUSABLE}": rule for name, rule in rules.policies.items()}
        )
        denying = _filter(rules=unusable, shadow_rules=None, shadow_prefix="")
        return [denying] if denying else []
    finding = _filter(rules=None, shadow_rules=rules, shadow_prefix=CUSTOM_PREFIX)
    asking = ext_authz.ask(provider, metadata=METADATA_NAMESPACE, key=ASKED_BY)
    return [finding, asking] if finding else []


def _fail_closed(policy: Policy) -> Policy:
    """A policy that cannot be enforced closes its workloads, under its own name.

    Dry-run stays dry-run, and AUDIT, which never blocks, audits everything.
    """
    if not policy.unsupported:
        return policy
    action = Action.AUDIT if policy.action is Action.AUDIT else Action.DENY
    return replace(policy, action=action, rules=(Rule(),))


_RBAC_ACTIONS = {
    Action.ALLOW: RBAC.ALLOW,
    Action.DENY: RBAC.DENY,
    Action.AUDIT: RBAC.LOG,
    Action.CUSTOM: RBAC.DENY,
}


def _rules(
    policies: Iterable[Policy], trust: Trust, action: Action, *, dry_run: bool | None = None
) -> RBAC | None:
    """The rule set of one action, enforced or dry-run (None: both); None where no policy belongs to it.

    An ALLOW set that is there but empty (no rules, or all of them dropped) admits nothing.
    """
    chosen = [p for p in policies if p.action is action and dry_run in (None, p.dry_run)]
    if not chosen:
        return None
    return RBAC(
        action=_RBAC_ACTIONS[action],
        policies={
            policy_id(policy, index): _compile(on_tcp, policy.namespace, trust)
            for policy in chosen
            for index, rule in enumerate(policy.rules)
            if (on_tcp := without_http(rule, action)) is not None
        },
    )


# "On a TCP connection an ALLOW rule with an HTTP-only field is ignored as a whole, so less is allowed; in any
# other rule only the HTTP-only condition is ignored, so more is denied (or audited, or asked about)."
def without_http(rule: Rule, action: Action) -> Rule | None:
    """The rule as it stands on plain TCP; None where it is dropped."""
    if action is Action.ALLOW:
        clauses = (*rule.sources, *rule.operations, rule.when)
        has_http = any(condition.layer is Layer.HTTP for clause in clauses for condition in clause)
        return None if has_http else rule
    return Rule(
        sources=tuple(map(_tcp_part, rule.sources)),
        operations=tuple(map(_tcp_part, rule.operations)),
        when=_tcp_part(rule.when),
    )


def _tcp_part(clause: Clause) -> Clause:
    return tuple(condition for condition in clause if condition.layer is not Layer.HTTP)


def _compile(rule: Rule, namespace: str, trust: Trust) -> RbacPolicy:
    """Envoy judges destination and source apart: each `when` condition joins the side of its attribute."""

    def side(side: _Side, entries: tuple[Clause, ...]) -> list[Message]:
        when = tuple(condition for condition in rule.when if condition.key in side.matchers)
        return [
            _match([meant(each, namespace=namespace, trust=trust) for each in (*entry, *when)], side)
            for entry in entries or ((),)
        ]

    return RbacPolicy(
        permissions=side(_PERMISSIONS, rule.operations), principals=side(_PRINCIPALS, rule.sources)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One half of an Envoy policy: a matcher for each attribute's value, and how matchers combine."""

    matchers: Mapping[str, Callable[[str], Message]]
    anything: Callable[[], Message]
    every: Callable[[list[Message]], Message]
    some: Callable[[list[Message]], Message]
    negated: Callable[[Message], Message]


def _match(clause: Iterable[Condition], side: _Side) -> Message:
    """Every condition of the clause: one of its values, none of its not_values."""
    demands = []
    for condition in clause:
        matcher = side.matchers[condition.key]
        if condition.values:
            demands.append(_joined(map(matcher, condition.values), side.some))
        if condition.not_values:
            demands.append(side.negated(_joined(map(matcher, condition.not_values), side.some)))
    return _joined(demands, side.every) if demands else side.anything()


def _joined(parts: Iterable[Message], join: Callable[[list[Message]], Message]) -> Message:
    first, *others = parts
    return join([first, *others]) if others else first


def _cidr(value: str) -> CidrRange:
    network = ipaddress.ip_network(value, strict=False)
    return CidrRange(
        address_prefix=str(network.network_address), prefix_len=UInt32Value(value=network.prefixlen)
    )


_PERMISSIONS = _Side(
    matchers={
        "destination.port": lambda value: Permission(destination_port=int(value)),
        "destination.ip": lambda value: Permission(destination_ip=_cidr(value)),
        "connection.sni": identity_matchers.server_name,
    },
    anything=lambda: Permission(any=True),
    every=lambda parts: Permission(and_rules=Permission.Set(rules=parts)),
    some=lambda parts: Permission(or_rules=Permission.Set(rules=parts)),
    negated=lambda part: Permission(not_rule=part),
)

_PRINCIPALS = _Side(
    matchers={
        "source.ip": lambda value: Principal(direct_remote_ip=_cidr(value)),
        "remote.ip": lambda value: Principal(remote_ip=_cidr(value)),
        "source.principal": identity_matchers.principal,
        "source.namespace": identity_matchers.namespace,
        "source.serviceAccount": identity_matchers.service_account,
        "source.trustDomain": identity_matchers.trust_domain,
    },
    anything=lambda: Principal(any=True),
    every=lambda parts: Principal(and_ids=Principal.Set(ids=parts)),
    some=lambda parts: Principal(or_ids=Principal.Set(ids=parts)),
    negated=lambda part: Principal(not_id=part),
)


def _filter(*, rules: RBAC | None, shadow_rules: RBAC | None, shadow_prefix: str) -> Filter | None:
    if rules is None and shadow_rules is None:
        return None
    config = Any()
    # Maps serialize in no fixed order by default; a push whose bytes differ cuts connections.
    config.Pack(
        NetworkRbac(
            rules=rules,
            shadow_rules=shadow_rules,
            shadow_rules_stat_prefix=shadow_prefix if shadow_rules is not None else "",
            stat_prefix=STAT_PREFIX,
        ),
        deterministic=True,
    )
    return Filter(name=FILTER_NAME, typed_config=config)
