"""The decision: transport first, then CUSTOM, DENY, ALLOW; dry-run policies beside them, AUDIT only noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.oracle.facts import (
    Connection,
    Decision,
    Destination,
    Identity,
    Mesh,
    PolicyFinding,
    RuleName,
    Shadow,
    Undecided,
    Verdict,
)
from conformance.oracle.match import View, match_rule
from conformance.oracle.transport import Mode, mode_for
from conformance.oracle.validate import validate

__all__ = ["decide"]


def decide(documents: Sequence[Mapping[str, Any]], connection: Connection, mesh: Mesh) -> Decision:
    """What must become of the connection under these AuthorizationPolicy and PeerAuthentication documents,
    each with its namespace. Raises Invalid for a document that the API refuses, Undecided where the answer of
    an external authorizer is not known."""
    destination, source = connection.destination, connection.source
    if not destination.injected:
        return Decision(
            verdict=Verdict.ALLOWED, why="the destination has no sidecar: nothing is enforced there"
        )
    transport = [item for item in documents if item.get("kind") == "PeerAuthentication"]
    mode, who = mode_for(transport, destination, mesh)
    # A sidecar knows what the other side takes, and offers no TLS where that is DISABLE.
    mutual = source.meshed and mode is not Mode.DISABLE
    if mode is Mode.STRICT and not mutual:
        why = f"plaintext is refused before any policy is asked: STRICT by {who}"
        return Decision(verdict=Verdict.REFUSED, why=why)
    peer = (
        Identity(
            trust_domain=mesh.trust_domain,
            namespace=source.namespace,
            service_account=source.service_account,
        )
        if mutual
        else None
    )
    found = [
        _policy(item, connection, peer, mesh)
        for item in documents
        if item.get("kind") == "AuthorizationPolicy"
    ]
    decision = _weigh(found, peer)
    customs = [item for item in found if item.governs and item.action == "CUSTOM"]
    asking = _matching(customs)
    denial = _ask(customs, asking, destination.port, decision, mesh) if asking else ""
    return _denied_first(decision, asking, denial) if denial else decision


def _ask(
    customs: Sequence[PolicyFinding],
    asking: tuple[RuleName, ...],
    port: int,
    otherwise: Decision,
    mesh: Mesh,
) -> str:
    """Why CUSTOM denies a connection that its rules match; empty where it goes on to the other policies."""
    who = f"CUSTOM {_names(asking)} matches"
    names = sorted({item.provider for item in customs})
    if len(names) > 1:
        return f"{who}, and the workload has several external authorizers: {', '.join(names)}"
    [name] = names
    if mesh.authorizers is None:
        raise _undecided(name, who, otherwise)
    authorizer = mesh.authorizers.get(name)
    if authorizer is None:
        return f"{who}, and the mesh knows no external authorizer {name}"
    if not authorizer.grpc:
        return ""
    if not authorizer.answers:
        return "" if authorizer.fail_open else f"{who}, and the external authorizer {name} does not answer"
    if authorizer.denies is None:
        raise _undecided(name, who, otherwise)
    return f"{who}, and the external authorizer {name} denies" if port in authorizer.denies else ""


def _undecided(name: str, who: str, otherwise: Decision) -> Undecided:
    rest = f"{otherwise.verdict.value}, because {otherwise.why}"
    return Undecided(
        f"{who}: the answer of the external authorizer {name} decides. What it denies is denied; what it "
        f"admits is {rest}"
    )


def _denied_first(decision: Decision, asking: tuple[RuleName, ...], why: str) -> Decision:
    """Nothing that stands behind CUSTOM sees the connection."""

    def unseen(shadow: Shadow | None) -> Shadow | None:
        return None if shadow is None else replace(shadow, visible=False)

    return replace(
        decision,
        verdict=Verdict.DENIED,
        why=why,
        matching=asking,
        audited=(),
        dry_run_allow=unseen(decision.dry_run_allow),
        dry_run_deny=unseen(decision.dry_run_deny),
    )


def _weigh(found: Sequence[PolicyFinding], peer: Identity | None) -> Decision:
    """The decision of all but CUSTOM."""
    governing = [item for item in found if item.governs]
    enforced = [item for item in governing if not item.dry_run]
    allows = [item for item in enforced if item.action == "ALLOW"]
    denied = _matching(item for item in enforced if item.action == "DENY")
    allowed = _matching(allows)
    if denied:
        verdict, why, matching = Verdict.DENIED, f"DENY {_names(denied)} matches", denied
    elif not allows:
        verdict, why, matching = Verdict.ALLOWED, "no ALLOW policy governs it and no DENY rule matches", ()
    elif allowed:
        verdict, why, matching = Verdict.ALLOWED, f"ALLOW {_names(allowed)} matches", allowed
    else:
        verdict, why, matching = Verdict.DENIED, "no ALLOW rule matches", ()
    return Decision(
        verdict=verdict,
        why=why,
        matching=matching,
        policies=tuple(found),
        audited=_matching(item for item in enforced if item.action == "AUDIT"),
        dry_run_allow=_shadow(governing, "ALLOW", visible=not denied),
        dry_run_deny=_shadow(governing, "DENY", visible=True),
        peer=peer,
    )


def _names(rules: Sequence[RuleName]) -> str:
    return ", ".join(str(rule) for rule in rules)


def _matching(policies: Iterable[PolicyFinding]) -> tuple[RuleName, ...]:
    names = [rule for policy in policies for rule in policy.matching]
    return tuple(sorted(names, key=lambda name: name.key.encode()))


def _shadow(governing: Sequence[PolicyFinding], action: str, *, visible: bool) -> Shadow | None:
    tried = [item for item in governing if item.dry_run and item.action == action]
    if not tried:
        return None
    matching = _matching(tried)
    allowed = bool(matching) if action == "ALLOW" else not matching
    return Shadow(allowed=allowed, matching=matching, visible=visible)


def _policy(
    document: Mapping[str, Any], connection: Connection, peer: Identity | None, mesh: Mesh
) -> PolicyFinding:
    valid = validate(document)
    metadata = document["metadata"]
    namespace, action = str(metadata.get("namespace", "")), str(valid.spec.get("action", "ALLOW"))
    why_not = _why_not(valid.spec, namespace, connection.destination, mesh)
    view = View(
        source=connection.source,
        destination=connection.destination,
        peer=peer,
        # What a sidecar names in its own TLS is gone with that TLS; what an application names stays.
        sni="" if connection.source.meshed and peer is None else connection.sni,
        mesh=mesh,
        policy_namespace=namespace,
    )
    rules = [] if why_not else valid.spec.get("rules") or []
    return PolicyFinding(
        namespace=namespace,
        name=str(metadata["name"]),
        action=action,
        dry_run=valid.dry_run,
        governs=not why_not,
        why=why_not or ("" if rules else "it has no rules, so it matches nothing"),
        rules=tuple(match_rule(rule, index, action, view) for index, rule in enumerate(rules)),
        provider=str(valid.spec["provider"]["name"]) if action == "CUSTOM" else "",
    )


def _why_not(spec: Mapping[str, Any], namespace: str, destination: Destination, mesh: Mesh) -> str:
    """Why a policy does not govern a destination; empty where it does."""
    if "targetRef" in spec or spec.get("targetRefs"):
        return "it has targetRefs, so it is not for sidecars"
    if namespace not in (mesh.root_namespace, destination.namespace):
        return f"it governs namespace {namespace}, not {destination.namespace}"
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    for key, value in labels.items():
        if destination.labels.get(key) != value:
            return f"its selector wants the label {key}={value}"
    return ""
