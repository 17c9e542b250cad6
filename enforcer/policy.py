"""AuthorizationPolicy as the enforcer thinks of it, and how a document becomes one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from enforcer.attributes import (
    OPERATION_FIELDS,
    SOURCE_FIELDS,
    Field,
    Layer,
    condition_attribute,
)
from enforcer.documents import Problems, as_list, as_mapping, as_strings, quote, read_selector
from enforcer.errors import PolicyError

DRY_RUN_ANNOTATION = "istio.io/dry-run"

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
"""The spellings of Go's strconv.ParseBool."""


class Action(Enum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One attribute's demand: the value is one of `values` (if any) and none of `not_values`."""

    key: str
    layer: Layer
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


Clause = tuple[Condition, ...]
"""Conditions that must all hold; none = anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Matches if some source, some operation and every `when` hold; an empty list asks nothing."""

    sources: tuple[Clause, ...] = ()
    operations: tuple[Clause, ...] = ()
    when: Clause = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""
    created: str = ""
    """RFC 3339, as the API wrote it."""
    action: Action = Action.ALLOW
    selector: Mapping[str, str] | None = None
    """Labels a pod must carry; None or empty = every pod of the namespace."""
    targets_gateway: bool = False
    """Bound by targetRef or targetRefs: not for sidecars."""
    rules: tuple[Rule, ...] = ()
    provider: str = ""
    """Of CUSTOM: the external authorizer, by its name in the mesh configuration."""
    dry_run: bool = False
    unsupported: tuple[str, ...] = ()
    """Why this enforcer cannot enforce it, one sentence each; empty = it can."""


def parse(document: Mapping[str, object]) -> Policy:
    """The policy of an AuthorizationPolicy object; raises PolicyError with the first thing that is wrong."""
    policy, problems = examine(document)
    if problems:
        raise problems[0]
    return policy


def parse_or_refuse(document: Mapping[str, object]) -> Policy:
    """Like `parse`, but never raises: what is wrong becomes a reason in `unsupported`.

    For objects that are in the API already; what cannot be read closes its workloads instead of vanishing.
    """
    policy, problems = examine(document)
    return replace(policy, unsupported=(*map(str, problems), *policy.unsupported))


def examine(document: Mapping[str, object]) -> tuple[Policy, tuple[PolicyError, ...]]:
    """The policy as far as it can be read, and everything that is wrong with the document.

    Where a part is unreadable, the strictest reading stands in: action DENY, the whole namespace, enforced.
    """
    problems: list[PolicyError] = []
    metadata = as_mapping(document.get("metadata"), "metadata", problems)
    spec = as_mapping(document.get("spec"), "spec", problems, known=_SPEC)
    action = _action(spec, problems)
    selector = read_selector(spec, problems)
    targets = [name for name in ("targetRef", "targetRefs") if spec.get(name)]
    scopes = [*(["selector"] if selector is not None else []), *targets]
    if len(scopes) > 1:
        problems.append(PolicyError("spec", f"only one of {scopes[0]} and {scopes[1]} can be set"))
    provider = _provider(spec, problems)
    dry_run = _dry_run(metadata, problems)
    policy = Policy(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        resource_version=str(metadata.get("resourceVersion", "")),
        created=str(metadata.get("creationTimestamp", "")),
        action=action,
        selector=selector,
        targets_gateway=selector is None and bool(targets),
        rules=tuple(
            _rule(item, f"spec.rules[{index}]", problems)
            for index, item in enumerate(as_list(spec.get("rules"), "spec.rules", problems))
        ),
        provider=provider if action is Action.CUSTOM else "",
        dry_run=dry_run,
        unsupported=tuple(_beyond_custom(provider, dry_run)) if action is Action.CUSTOM else (),
    )
    return policy, tuple(problems)


_SPEC = ("action", "selector", "targetRef", "targetRefs", "rules", "provider")


def _action(spec: Mapping[str, object], problems: Problems) -> Action:
    written = spec.get("action")
    if written is None:
        return Action.ALLOW
    try:
        return Action(written)
    except ValueError:
        known = ", ".join(action.value for action in Action)
        problems.append(PolicyError("spec.action", f"{quote(written)} is not one of {known}"))
        return Action.DENY


def _provider(spec: Mapping[str, object], problems: Problems) -> str:
    provider = as_mapping(spec.get("provider"), "spec.provider", problems, known=("name",))
    name = provider.get("name")
    if name is not None and not isinstance(name, str):
        problems.append(PolicyError("spec.provider.name", f"{quote(name)} is not a string"))
    return name if isinstance(name, str) else ""


def _beyond_custom(provider: str, dry_run: bool) -> Iterator[str]:
    if not provider:
        yield "spec.provider.name: CUSTOM needs the name of an external authorizer"
    if dry_run:
        yield not_for_trial(Action.CUSTOM)


def not_for_trial(action: Action) -> str:
    return f"metadata.annotations[{DRY_RUN_ANNOTATION}]: is for ALLOW and DENY only, not for {action.value}"


def _dry_run(metadata: Mapping[str, object], problems: Problems) -> bool:
    annotations = as_mapping(metadata.get("annotations"), "metadata.annotations", problems)
    if DRY_RUN_ANNOTATION not in annotations:
        return False
    written = annotations[DRY_RUN_ANNOTATION]
    if not isinstance(written, str) or written not in _BOOLEANS:
        path = f"metadata.annotations[{DRY_RUN_ANNOTATION}]"
        problems.append(PolicyError(path, f'{quote(written)} is not a boolean; write "true" or "false"'))
        return False
    return _BOOLEANS[written]


def _rule(item: object, path: str, problems: Problems) -> Rule:
    rule = as_mapping(item, path, problems, known=("from", "to", "when"), required=True)

    def clauses(name: str, member: str, fields: Mapping[str, Field]) -> tuple[Clause, ...]:
        return tuple(
            _clause(entry, f"{path}.{name}[{index}]", member, fields, problems)
            for index, entry in enumerate(as_list(rule.get(name), f"{path}.{name}", problems))
        )

    return Rule(
        sources=clauses("from", "source", SOURCE_FIELDS),
        operations=clauses("to", "operation", OPERATION_FIELDS),
        when=tuple(
            condition
            for index, entry in enumerate(as_list(rule.get("when"), f"{path}.when", problems))
            if (condition := _condition(entry, f"{path}.when[{index}]", problems))
        ),
    )


def _clause(
    item: object,
    path: str,
    member: str,
    fields: Mapping[str, Field],
    problems: Problems,
) -> Clause:
    entry = as_mapping(item, path, problems, known=(member,), required=True)
    path = f"{path}.{member}"
    body = as_mapping(entry.get(member), path, problems, known=fields)
    conditions = []
    for name, field in fields.items():
        values = as_strings(body.get(name), f"{path}.{name}", field.problem, problems)
        if not values:
            continue
        conditions.append(
            Condition(
                key=field.attribute.key,
                layer=field.attribute.layer,
                values=() if field.negated else values,
                not_values=values if field.negated else (),
            )
        )
    if not any(body.get(name) for name in body):
        problems.append(PolicyError(path, f"is empty; name at least one field, or leave the {member} away"))
    _check_service_accounts(body, path, problems)
    return tuple(conditions)


def _check_service_accounts(source: Mapping[str, object], path: str, problems: Problems) -> None:
    accounts = [name for name in ("serviceAccounts", "notServiceAccounts") if source.get(name)]
    others = [n for n in ("principals", "notPrincipals", "namespaces", "notNamespaces") if source.get(n)]
    if accounts and others:
        problems.append(PolicyError(path, f"{accounts[0]} cannot stand together with {others[0]}"))


def _condition(item: object, path: str, problems: Problems) -> Condition | None:
    entry = as_mapping(item, path, problems, known=("key", "values", "notValues"), required=True)
    key = entry.get("key")
    if not isinstance(key, str) or not key:
        problems.append(PolicyError(f"{path}.key", "must name an attribute, such as destination.port"))
        return None
    attribute = condition_attribute(key)
    if isinstance(attribute, str):
        problems.append(PolicyError(f"{path}.key", f"{quote(key)} {attribute}"))
        return None
    values = as_strings(entry.get("values"), f"{path}.values", attribute.problem, problems)
    not_values = as_strings(entry.get("notValues"), f"{path}.notValues", attribute.problem, problems)
    if not entry.get("values") and not entry.get("notValues"):
        problems.append(PolicyError(path, f"{quote(key)} needs values or notValues"))
    return Condition(key=key, layer=attribute.layer, values=values, not_values=not_values)
