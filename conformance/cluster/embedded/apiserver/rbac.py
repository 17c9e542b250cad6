"""Who may do what: RBAC roles and bindings, and the reviews that ask about them.

Stored roles and bindings are joined by the bootstrap ones of `rbac_bootstrap.py`, which hold whether or not
they have been stored; a stored role of the same name replaces the bootstrap one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from conformance.cluster.embedded.apiserver.auth import MASTERS, User
from conformance.cluster.embedded.apiserver.rbac_bootstrap import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RBAC
from conformance.cluster.embedded.apiserver.selector_objects import matches_selector
from conformance.cluster.embedded.apiserver.status import ApiError, FieldError, forbidden, invalid

ListObjects = Callable[[str], Iterable[dict[str, Any]]]  # resource (plural.group), all namespaces
Rule = Mapping[str, Any]

_AUTHORIZATION: Final = "authorization.k8s.io"
_ACCOUNT_PREFIX: Final = "system:serviceaccount:"


def authorize(
    user: User,
    *,
    verb: str,
    group: str,
    resource: str,
    subresource: str = "",
    namespace: str = "",
    name: str = "",
    list_objects: ListObjects,
) -> bool:
    """Whether the user may do this to a resource (`namespace` empty: at the cluster scope)."""
    return bool(_why(user, _on_resource(verb, group, resource, subresource, name), namespace, list_objects))


def authorize_path(user: User, *, verb: str, path: str, list_objects: ListObjects) -> bool:
    """Whether the user may do this to a path that is no resource: `/healthz`, `/openapi/v3`."""
    return bool(_why(user, _on_path(verb, path), "", list_objects))


def denied(
    user: User,
    *,
    verb: str,
    group: str,
    resource: str,
    subresource: str = "",
    namespace: str = "",
    name: str = "",
) -> ApiError:
    """The refusal, as a real server words it."""
    what = f"{resource}/{subresource}" if subresource else resource
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    sentence = f'User "{user.name}" cannot {verb} resource "{what}" in API group "{group}" {where}'
    return forbidden(resource, name, sentence, group=group)


def denied_path(user: User, *, verb: str, path: str) -> ApiError:
    return ApiError(403, "Forbidden", f'forbidden: User "{user.name}" cannot {verb} path "{path}"', {})


def self_subject_access_review(
    user: User, body: Mapping[str, Any], list_objects: ListObjects
) -> dict[str, Any]:
    """Answers a SelfSubjectAccessReview. Raises ApiError 422 where the question is incomplete."""
    return _review("SelfSubjectAccessReview", user, body, list_objects)


def subject_access_review(body: Mapping[str, Any], list_objects: ListObjects) -> dict[str, Any]:
    """Answers a SubjectAccessReview about the user and groups it names."""
    spec = body.get("spec") or {}
    if not spec.get("user") and not spec.get("groups"):
        message = "Required value: at least one of user or group must be specified"
        error = FieldError(path="spec.user", type="FieldValueRequired", message=message)
        raise invalid("SubjectAccessReview", "", [error], group=_AUTHORIZATION)
    subject = User(name=spec.get("user") or "", groups=tuple(spec.get("groups") or ()))
    return _review("SubjectAccessReview", subject, body, list_objects)


def self_subject_rules_review(
    user: User, body: Mapping[str, Any], list_objects: ListObjects
) -> dict[str, Any]:
    """Answers a SelfSubjectRulesReview (`kubectl auth can-i --list`). Raises ApiError: no namespace asked."""
    namespace = (body.get("spec") or {}).get("namespace") or ""
    if not namespace:
        raise ApiError(400, "BadRequest", "no namespace on request")
    rules: list[Rule] = []
    for _, _, granted in _grants(user, namespace, list_objects):
        rules += (rule for rule in granted if rule not in rules)
    of_resources, of_paths = (
        ("verbs", "apiGroups", "resources", "resourceNames"),
        ("verbs", "nonResourceURLs"),
    )
    status = {
        "resourceRules": [_only(rule, of_resources) for rule in rules if rule.get("resources")],
        "nonResourceRules": [_only(rule, of_paths) for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }
    return _answered("SelfSubjectRulesReview", body, status)


def _only(rule: Rule, names: Sequence[str]) -> dict[str, Any]:
    return {name: rule[name] for name in names if rule.get(name)}


def _review(kind: str, user: User, body: Mapping[str, Any], list_objects: ListObjects) -> dict[str, Any]:
    spec = body.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        error = FieldError(
            path="spec.resourceAttributes",
            type="FieldValueInvalid",
            message=f"Invalid value: null: {message}",
        )
        raise invalid(kind, "", [error], group=_AUTHORIZATION)
    if resource is not None:
        wanted = _on_resource(
            *(resource.get(key) or "" for key in ("verb", "group", "resource", "subresource", "name"))
        )
        reason = _why(user, wanted, resource.get("namespace") or "", list_objects)
    else:
        path = path or {}
        wanted = _on_path(path.get("verb") or "", path.get("path") or "")
        reason = _why(user, wanted, "", list_objects)
    status: dict[str, Any] = {"allowed": bool(reason)}
    if reason and reason != MASTERS:
        status["reason"] = reason
    return _answered(kind, body, status)


def _answered(kind: str, body: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    metadata = dict(body.get("metadata") or {}) | {"creationTimestamp": None}
    return {
        "kind": kind,
        "apiVersion": f"{_AUTHORIZATION}/v1",
        "metadata": metadata,
        "spec": dict(body.get("spec") or {}),
        "status": dict(status),
    }


def _on_resource(verb: str, group: str, resource: str, subresource: str, name: str) -> Callable[[Rule], bool]:
    names = {resource, "*"} if not subresource else {f"{resource}/{subresource}", f"*/{subresource}", "*"}

    def covered(rule: Rule) -> bool:
        only = rule.get("resourceNames")
        return (
            _has(rule, "verbs", {verb, "*"})
            and _has(rule, "apiGroups", {group, "*"})
            and _has(rule, "resources", names)
            and (not only or name in only)
        )

    return covered


def _on_path(verb: str, path: str) -> Callable[[Rule], bool]:
    def covered(rule: Rule) -> bool:
        patterns: Sequence[str] = rule.get("nonResourceURLs") or ()
        return _has(rule, "verbs", {verb, "*"}) and any(
            path == pattern or (pattern.endswith("*") and path.startswith(pattern[:-1]))
            for pattern in patterns
        )

    return covered


def _has(rule: Rule, key: str, wanted: set[str]) -> bool:
    return not wanted.isdisjoint(rule.get(key) or ())


def _why(user: User, covered: Callable[[Rule], bool], namespace: str, list_objects: ListObjects) -> str:
    """The sentence that says which binding allows it; empty: none does."""
    if MASTERS in user.groups:
        return MASTERS
    for binding, subject, rules in _grants(user, namespace, list_objects):
        if any(covered(rule) for rule in rules):
            reference = binding["roleRef"]
            kind, name = binding["kind"], binding["metadata"]["name"]
            if kind == "RoleBinding":
                name = f"{name}/{binding['metadata']['namespace']}"
            to = f'{reference["kind"]} "{reference["name"]}" to {subject}'
            return f'RBAC: allowed by {kind} "{name}" of {to}'
    return ""


def _grants(
    user: User, namespace: str, list_objects: ListObjects
) -> Iterator[tuple[dict[str, Any], str, Iterator[Rule]]]:
    """(binding, the subject as messages show it, rules) of every binding that names the user."""
    roles = {role["metadata"]["name"]: role for role in CLUSTER_ROLES}
    roles |= {role["metadata"]["name"]: role for role in list_objects(f"clusterroles.{RBAC}")}
    for binding, subject in _bindings(user, namespace, list_objects):
        reference = binding["roleRef"]
        if reference["kind"] == "ClusterRole":
            yield binding, subject, _rules(roles.get(reference["name"]), roles)
        else:
            home = binding["metadata"]["namespace"]
            yield binding, subject, _local_rules(home, reference["name"], list_objects)


def _bindings(user: User, namespace: str, list_objects: ListObjects) -> Iterator[tuple[dict[str, Any], str]]:
    everywhere = (*CLUSTER_ROLE_BINDINGS, *list_objects(f"clusterrolebindings.{RBAC}"))
    here = [
        binding
        for binding in (list_objects(f"rolebindings.{RBAC}") if namespace else ())
        if binding["metadata"].get("namespace") == namespace
    ]
    for kind, bindings in (("ClusterRoleBinding", everywhere), ("RoleBinding", here)):
        for binding in bindings:
            for subject in binding.get("subjects") or ():
                if _is_subject(user, subject, namespace):
                    shown = subject["name"]
                    if subject["kind"] == "ServiceAccount":
                        shown = f"{shown}/{subject.get('namespace') or namespace}"
                    yield {**binding, "kind": kind}, f'{subject["kind"]} "{shown}"'
                    break


def _is_subject(user: User, subject: Mapping[str, str], namespace: str) -> bool:
    match subject["kind"]:
        case "User":
            return subject["name"] == user.name
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            home = subject.get("namespace") or namespace
            return user.name == f"{_ACCOUNT_PREFIX}{home}:{subject['name']}"
        case _:
            return False


def _rules(role: Mapping[str, Any] | None, roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Rule]:
    """The rules of a cluster role, with those it aggregates. A binding to a missing role grants nothing."""
    if role is None:
        return
    yield from role.get("rules") or ()
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        for other in roles.values():
            if other is not role and matches_selector(selector, other["metadata"].get("labels") or {}):
                yield from other.get("rules") or ()


def _local_rules(namespace: str, name: str, list_objects: ListObjects) -> Iterator[Rule]:
    for role in list_objects(f"roles.{RBAC}"):
        if role["metadata"]["name"] == name and role["metadata"].get("namespace") == namespace:
            yield from role.get("rules") or ()
