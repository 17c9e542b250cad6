"""What the validating webhook refuses and what it warns about.

The CRD schema has run before: shapes, enums and list limits are its part. Every message starts with the field
as its author wrote it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from enforcer import peer_authentication
from enforcer.attributes import Layer
from enforcer.policy import DRY_RUN_ANNOTATION, Action, Clause, Policy, examine, not_for_trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    errors: tuple[str, ...] = ()
    """Reasons to refuse the object; empty = admit it."""
    warnings: tuple[str, ...] = ()
    """Told to the author of an admitted object."""


def review(document: Mapping[str, object], *, old: Mapping[str, object] | None = None) -> Verdict:
    """Judges an object of security.istio.io as it would be stored; `old` is what an update replaces.

    An update that changes nothing of what we judge is admitted even where it could not be created today, so
    that labels and finalizers of an older object stay editable.
    """
    match document.get("kind"):
        case "AuthorizationPolicy":
            verdict = _review_authorization_policy(document)
        case "PeerAuthentication":
            verdict = _review_peer_authentication(document)
        case kind:
            verdict = Verdict(errors=(f'kind: "{kind}" is not a kind that this webhook judges',))
    if old is not None and _judged(old) == _judged(document):
        return Verdict(warnings=verdict.warnings)
    return verdict


def _review_authorization_policy(document: Mapping[str, object]) -> Verdict:
    policy, problems = examine(document)
    errors = [str(problem) for problem in problems]
    if not any(problem.path == "spec.action" for problem in problems):
        errors += _action_errors(policy, document)
    errors += policy.unsupported
    # A trial of CUSTOM is wrong in two ways at once, with one sentence.
    errors = list(dict.fromkeys(errors))
    return Verdict(errors=tuple(errors), warnings=() if errors else tuple(_warnings(policy)))


def _action_errors(policy: Policy, document: Mapping[str, object]) -> Iterator[str]:
    action = policy.action.value
    spec = _mapping(document, "spec")
    if policy.action in (Action.DENY, Action.CUSTOM) and not spec.get("rules"):
        yield f"spec.rules: {action} without rules never matches; write rules: [{{}}] to match everything"
    if policy.action is not Action.CUSTOM and spec.get("provider") is not None:
        yield f"spec.provider: belongs to action CUSTOM only, not to {action}"
    if policy.action in (Action.AUDIT, Action.CUSTOM) and _has_dry_run(document):
        yield not_for_trial(policy.action)
    if policy.action is Action.CUSTOM:
        for index, key in _identity_keys(policy):
            yield f"spec.rules[{index}]: {key} cannot be matched under action CUSTOM"


_BEYOND_CUSTOM = ("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain")


def _identity_keys(policy: Policy) -> Iterator[tuple[int, str]]:
    """Index of the rule and attribute of each condition on who the peer or the end user is."""
    for index, rule in enumerate(policy.rules):
        for clause in (*rule.sources, rule.when):
            for condition in clause:
                if condition.key in _BEYOND_CUSTOM or condition.key.startswith("request.auth."):
                    yield index, condition.key


def _warnings(policy: Policy) -> Iterator[str]:
    if policy.selector is not None and not policy.selector:
        yield _EMPTY_SELECTOR
    if policy.action is not Action.DENY:
        return
    for index, rule in enumerate(policy.rules):
        path = f"spec.rules[{index}]"
        for number, operation in enumerate(rule.operations):
            if not any(condition.key == "destination.port" for condition in operation):
                yield f"{path}.to[{number}].operation: has no ports or notPorts; {_DENIES_ALL}"
        for number, source in enumerate(() if rule.operations else rule.sources):
            if _only_http(source):
                yield f"{path}.from[{number}].source: has HTTP-only fields alone; {_DENIES_ALL}"


_EMPTY_SELECTOR = "spec.selector: has no labels, so the policy covers every workload of its namespace"
_DENIES_ALL = (
    "HTTP-only fields of a DENY rule are ignored on TCP, so it denies all TCP traffic in its scope; "
    "name the ports it is meant for"
)


def _only_http(clause: Clause) -> bool:
    return all(condition.layer is Layer.HTTP for condition in clause)


def _review_peer_authentication(document: Mapping[str, object]) -> Verdict:
    read = peer_authentication.read(document)
    errors = list(read.problems)
    if _has_dry_run(document):
        errors.append(f"metadata.annotations[{DRY_RUN_ANNOTATION}]: is for AuthorizationPolicy only")
    empty = read.selector is not None and not read.selector
    return Verdict(errors=tuple(errors), warnings=(_EMPTY_SELECTOR,) if empty and not errors else ())


def _judged(document: Mapping[str, object]) -> tuple[object, object]:
    annotations = _mapping(_mapping(document, "metadata"), "annotations")
    return document.get("spec"), annotations.get(DRY_RUN_ANNOTATION)


def _has_dry_run(document: Mapping[str, object]) -> bool:
    return DRY_RUN_ANNOTATION in _mapping(_mapping(document, "metadata"), "annotations")


def _mapping(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}
