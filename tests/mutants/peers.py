"""Mutants of who the peer is, from where it comes, and what ports take: identities, addresses, mutual TLS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRbac
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration

from enforcer import identity_matchers as matchers
from enforcer import peer_authentication, rbac
from enforcer.attributes import Layer
from enforcer.peer_authentication import Mode, Modes, PeerAuthentication
from enforcer.policy import Action, Clause, Condition, Policy, Rule
from enforcer.xds import inbound
from tests.mutants.seams import (
    around,
    compile_rules_as,
    instead,
    mutant,
    permission_matcher,
    principal_matcher,
)


def authenticated(matcher: StringMatcher | None = None) -> Principal:
    return Principal(authenticated=Principal.Authenticated(principal_name=matcher))


def by_pattern(pattern: str) -> Principal:
    return authenticated(StringMatcher(safe_regex=RegexMatcher(regex=pattern)))


def exactly(value: str) -> Principal:
    return authenticated(StringMatcher(exact=f"spiffe://{value}"))


def conditions_as(change: Any) -> None:
    """Compiles other conditions than the written ones; None leaves one out."""

    def clause(written: Clause) -> Clause:
        return tuple(changed for each in written if (changed := change(each)) is not None)

    compile_rules_as(
        lambda rule: Rule(
            sources=tuple(map(clause, rule.sources)),
            operations=tuple(map(clause, rule.operations)),
            when=clause(rule.when),
        )
    )


@mutant
def principals_by_part() -> None:
    """A principal matches every identity that begins with it."""
    principal_matcher("source.principal", lambda value: matchers.principal(f"{value.rstrip('*')}*"))


@mutant
def principal_wildcards_literal() -> None:
    """A * in principals is a star."""
    principal_matcher("source.principal", exactly)


@mutant
def any_principal_literal() -> None:
    """principals * means an identity that is a star."""
    principal_matcher(
        "source.principal", lambda value: exactly(value) if value == "*" else matchers.principal(value)
    )


@mutant
def namespace_wildcards_literal() -> None:
    """A * in namespaces is a star."""
    principal_matcher(
        "source.namespace", lambda value: by_pattern(f"spiffe://[^/]+/ns/{re.escape(value)}/sa/[^/]+")
    )


@mutant
def account_dots_match_anything() -> None:
    """A service account is a regular expression (CVE-2026-39350)."""

    def unescaped(value: str) -> Principal:
        owner, _, account = value.partition("/")
        return by_pattern(f".*/ns/{owner}/sa/{account}")

    principal_matcher("source.serviceAccount", unescaped)


@mutant
def accounts_of_any_namespace() -> None:
    """A service account is matched by its name alone."""
    principal_matcher(
        "source.serviceAccount",
        lambda value: authenticated(StringMatcher(suffix=f"/sa/{value.partition('/')[2]}")),
    )


@mutant
def trust_domain_wildcards_literal() -> None:
    """A * in trustDomains is a star."""
    principal_matcher(
        "source.trustDomain", lambda value: authenticated(StringMatcher(prefix=f"spiffe://{value}/"))
    )


@mutant
def trust_domain_ignored() -> None:
    """trustDomains matches every identity."""
    principal_matcher("source.trustDomain", lambda _value: authenticated())


@mutant
def negated_identity_forgotten() -> None:
    """What excludes an identity is left out."""
    conditions_as(
        lambda each: (
            replace(each, not_values=())
            if each.layer is Layer.TLS and each.values
            else None
            if each.layer is Layer.TLS
            else each
        )
    )


@mutant
def identity_keys_ignored() -> None:
    """Keys of when that ask for an identity ask nothing."""
    compile_rules_as(
        lambda rule: replace(
            rule, when=tuple(c for c in rule.when if c.layer is not Layer.TLS or c.key == "connection.sni")
        )
    )


@mutant
def scheme_stripped() -> None:
    """A principal may be written with its scheme."""
    principal_matcher(
        "source.principal", lambda value: matchers.principal(value.removeprefix(matchers.SCHEME))
    )


@mutant
def case_ignored() -> None:
    """Identities are compared without regard to case."""

    @around(matchers, "_peer")
    def _peer(original: Any, matcher: StringMatcher, *possible: bool) -> Any:
        if matcher.safe_regex.regex:
            matcher.safe_regex.regex = f"(?i){matcher.safe_regex.regex}"
        else:
            matcher.ignore_case = True
        return original(matcher, *possible)


@mutant
def stars_anywhere() -> None:
    """Every * of a principal is a wildcard."""
    principal_matcher(
        "source.principal",
        lambda value: by_pattern(f"spiffe://{'.*'.join(map(re.escape, value.split('*')))}"),
    )


@mutant
def identity_of_plaintext_peers() -> None:
    """A client without a certificate is taken for whoever is asked for."""

    @around(matchers, "_peer")
    def _peer(original: Any, *arguments: Any) -> Any:
        nobody = Principal(not_id=authenticated())
        return Principal(or_ids=Principal.Set(ids=[original(*arguments), nobody]))


@mutant
def negation_needs_identity() -> None:
    """What excludes an identity matches only clients that have one."""
    side: Any = rbac._PRINCIPALS

    def negated(part: Principal) -> Principal:
        if "authenticated" not in str(part):
            return side.negated(part)
        return Principal(and_ids=Principal.Set(ids=[side.negated(part), authenticated()]))

    instead(rbac, "_PRINCIPALS", replace(side, negated=negated))


@mutant
def plaintext_matches_no_rule() -> None:
    """Rules without an identity match clients with one only."""
    side: Any = rbac._PRINCIPALS
    instead(rbac, "_PRINCIPALS", replace(side, anything=authenticated))


@mutant
def strict_is_permissive() -> None:
    """STRICT takes plaintext, too."""

    def relaxed(mode: Mode) -> Mode:
        return Mode.PERMISSIVE if mode is Mode.STRICT else mode

    @around(peer_authentication, "modes_for")
    def _modes_for(original: Any, *arguments: Any, **more: Any) -> Modes:
        modes: Modes = original(*arguments, **more)
        return Modes(
            default=relaxed(modes.default),
            ports={port: relaxed(mode) for port, mode in modes.ports.items()},
        )


@mutant
def disable_is_permissive() -> None:
    """DISABLE takes mutual TLS, too."""

    def relaxed(mode: Mode) -> Mode:
        return Mode.PERMISSIVE if mode is Mode.DISABLE else mode

    @around(peer_authentication, "modes_for")
    def _modes_for(original: Any, *arguments: Any, **more: Any) -> Modes:
        modes: Modes = original(*arguments, **more)
        return Modes(
            default=relaxed(modes.default),
            ports={port: relaxed(mode) for port, mode in modes.ports.items()},
        )


@mutant
def port_modes_ignored() -> None:
    """A mode of a single port is left out."""

    @around(peer_authentication, "modes_for")
    def _modes_for(original: Any, *arguments: Any, **more: Any) -> Modes:
        modes: Modes = original(*arguments, **more)
        return replace(modes, ports={})


@mutant
def newest_peer_authentication_wins() -> None:
    """Of several PeerAuthentications of one level the newest counts."""

    @around(peer_authentication, "modes_for")
    def _modes_for(original: Any, found: Iterable[PeerAuthentication], **pod: Any) -> Any:
        ascending = sorted(found, key=lambda policy: (policy.created, policy.name))
        return original(
            [replace(policy, created=f"{1000 - rank:04}") for rank, policy in enumerate(ascending)], **pod
        )


@mutant
def blocks_are_addresses() -> None:
    """Of a CIDR range only its first address matches."""

    @around(rbac, "_cidr")
    def _cidr(original: Any, value: str) -> Any:
        return original(value.partition("/")[0])


@mutant
def negated_addresses_forgotten() -> None:
    """notIpBlocks is left out."""
    conditions_as(lambda each: None if each.key in ("source.ip", "remote.ip") and not each.values else each)


@mutant
def remote_address_unknown() -> None:
    """Without PROXY protocol nobody has a remote address."""
    principal_matcher("remote.ip", lambda _value: Principal(not_id=Principal(any=True)))


@mutant
def destination_address_ignored() -> None:
    """destination.ip matches every address."""
    permission_matcher("destination.ip", lambda _value: Permission(any=True))


@mutant
def server_name_wildcards_literal() -> None:
    """A * in connection.sni is a star."""
    permission_matcher(
        "connection.sni", lambda value: Permission(requested_server_name=StringMatcher(exact=value))
    )


@mutant
def absent_server_name_is_any() -> None:
    """connection.sni * matches connections without TLS, too."""
    permission_matcher(
        "connection.sni",
        lambda value: Permission(any=True) if value == "*" else matchers.server_name(value),
    )


@mutant
def ports_of_the_service() -> None:
    """Ports are those of Services: 80 is the workload's 9000."""
    permission_matcher(
        "destination.port", lambda value: Permission(destination_port={80: 9000}.get(int(value), int(value)))
    )


@mutant
def ports_compared_as_text() -> None:
    """A port with leading zeros is no port."""
    permission_matcher(
        "destination.port",
        lambda value: Permission(destination_port=0 if value.startswith("0") else int(value)),
    )


@mutant
def port_key_ignored() -> None:
    """destination.port under when asks nothing."""

    def without(rule: Rule) -> Rule:
        def kept(condition: Condition) -> bool:
            return condition.key != "destination.port"

        return replace(rule, when=tuple(filter(kept, rule.when)))

    compile_rules_as(without)


@mutant
def http_keys_ignored() -> None:
    """Keys of when that exist in HTTP alone ask nothing, in ALLOW rules as well."""
    compile_rules_as(
        lambda rule: replace(rule, when=tuple(c for c in rule.when if c.layer is not Layer.HTTP))
    )


@mutant
def denied_clients_hang() -> None:
    """A denied connection gets no byte and no end."""

    @around(rbac, "NetworkRbac")
    def _network_rbac(_original: Any, **fields: Any) -> Any:
        return NetworkRbac(**fields, delay_deny=Duration(seconds=600))


@mutant
def strict_as_a_policy() -> None:
    """STRICT takes plaintext in and denies it by a policy of its own: the same outcome for another reason."""
    anyone = Condition(key="source.principal", layer=Layer.TCP, not_values=("*",))
    denial = Policy(namespace="mesh", name="strict", action=Action.DENY, rules=(Rule(sources=((anyone,),)),))

    @around(inbound, "build")
    def build(original: Any, policies: Sequence[Policy], modes: Modes, **more: Any) -> Any:
        if modes.default is not Mode.STRICT:
            return original(policies, modes, **more)
        return original([*policies, denial], replace(modes, default=Mode.PERMISSIVE), **more)


@mutant
def aliases_unknown() -> None:
    """A principal means the trust domain that it writes, and no other name of it."""
    instead(matchers, "_principal_aliases", lambda value, _trust: (value,))


@mutant
def any_trust_domain_is_an_alias() -> None:
    """A principal of a trust domain that is not the mesh's means the mesh's own identities, too."""

    @around(matchers, "_principal_aliases")
    def _principal_aliases(original: Any, value: str, trust: Any) -> Any:
        _, slash, path = value.partition("/")
        return (*original(value, trust), *(f"{domain}{slash}{path}" for domain in trust.domains))
