"""Who the peer is: values of the identity attributes -> Envoy matchers on the URI of the peer's certificate.

The URI is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; none of the three parts has a slash.
Every matcher is built from a form that compares literally, and from a regular expression only where a `*`
asks for one, with everything else quoted: a dot in a name is a dot. A connection without a peer certificate
has no URI, so no matcher matches it and every negation does. Why so: docs/decisions/0007-identity-matching.md
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from enforcer.mesh import CLUSTER_LOCAL, Trust
from enforcer.policy import Condition

SCHEME = "spiffe://"
ID_LIMIT = 2048
"""Bytes of the longest SPIFFE ID."""
PROGRAM_LIMIT = 100
"""What Envoy refuses a regular expression's program above, unless its matcher says more."""
_PROGRAM_MARGIN = 16
"""No program has more instructions than its pattern has bytes, plus this; measured: plus 5."""


def meant(condition: Condition, *, namespace: str, trust: Trust) -> Condition:
    """The condition with its values spelled out: a bare service account is one of the policy's namespace, and
    a name of the mesh's trust domain stands for all of its names."""
    match condition.key:
        case "source.serviceAccount":

            def spell(value: str) -> Iterable[str]:
                return (value if "/" in value else f"{namespace}/{value}",)

        case "source.principal":

            def spell(value: str) -> Iterable[str]:
                return _principal_aliases(value, trust)

        case "source.trustDomain":

            def spell(value: str) -> Iterable[str]:
                return trust.domains if value in trust.domains else (value,)

        case _:
            return condition

    def all_of(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(spelled for value in values for spelled in spell(value)))

    return replace(condition, values=all_of(condition.values), not_values=all_of(condition.not_values))


def _principal_aliases(value: str, trust: Trust) -> Iterable[str]:
    """A principal of the form `td/ns/x/sa/y` whose td names the mesh's trust domain, for each of its names.

    `cluster.local` always does; so does `*suffix` where it matches one of the names. Any other principal
    stands for itself.
    """
    domain, *path = value.split("/")
    if len(path) != 4 or domain == "*":
        return (value,)

    def names(known: str) -> bool:
        return known.endswith(domain[1:]) if domain.startswith("*") else known == domain

    if domain != CLUSTER_LOCAL and not any(map(names, trust.domains)):
        return (value,)
    return [value if names(known) else "/".join((known, *path)) for known in trust.domains]


def principal(value: str) -> Principal:
    """Exact, `prefix*`, `*suffix`, or `*` for any identity; a `*` elsewhere is a literal one.

    The value starts behind the scheme, so one that writes the scheme itself matches nobody.
    """
    if value.startswith("*") and value != "*":
        return _peer(_pattern(f"{re.escape(SCHEME)}.*{re.escape(value[1:])}"))
    return _peer(_plain(value, behind=SCHEME))


def namespace(value: str) -> Principal:
    """Each `*` stands for any characters of the one namespace, none included."""
    return _peer(_pattern(f"{re.escape(SCHEME)}[^/]+/ns/{_wildcards(value)}/sa/[^/]+"), "/" not in value)


def service_account(value: str) -> Principal:
    """`namespace/account`, in any trust domain."""
    owner, _, account = value.partition("/")
    return _peer(StringMatcher(suffix=f"/ns/{owner}/sa/{account}"))


def trust_domain(value: str) -> Principal:
    """Exact, `prefix*`, `*suffix`, or `*`; the wildcard ends at the trust domain's end."""
    if value.startswith("*") and value != "*":
        return _peer(_pattern(f"{re.escape(SCHEME)}{_wildcards(value)}/ns/.*"), "/" not in value)
    exact = value if value.endswith("*") else f"{value}/*"
    return _peer(_plain(exact, behind=SCHEME), "/" not in value)


def server_name(value: str) -> Permission:
    """The name that the client asked for in its TLS hello: exact, `prefix*`, `*suffix`, or `*` for any name.

    Without TLS it is empty, which no value matches.
    """
    if value == "*":
        return Permission(requested_server_name=_pattern(".+"))
    return Permission(requested_server_name=_plain(value))


def _plain(value: str, *, behind: str = "") -> StringMatcher:
    """A value with at most one wildcard, at an end; a suffix only with nothing to stand `behind`."""
    if value.startswith("*") and value != "*":
        return StringMatcher(suffix=value[1:])
    if value.endswith("*"):
        return StringMatcher(prefix=f"{behind}{value[:-1]}")
    return StringMatcher(exact=f"{behind}{value}")


def _wildcards(value: str) -> str:
    """The regular expression of a value inside one segment of the URI; several `*` in a row are one."""
    return "[^/]*".join(map(re.escape, re.split(r"\*+", value)))


def _pattern(regex: str) -> StringMatcher:
    """A match of the whole text (RE2)."""
    size = len(regex.encode()) + _PROGRAM_MARGIN
    matcher = RegexMatcher(regex=regex)
    if size > PROGRAM_LIMIT:
        # Deprecated in favour of a runtime key of the bootstrap, but it travels with the policy that needs
        # it: a sidecar that refused the listener would go on with the policies from before.
        matcher.google_re2.max_program_size.value = size
    return StringMatcher(safe_regex=matcher)


def _peer(matcher: StringMatcher, possible: bool = True) -> Principal:
    """Who has a certificate with such a URI; nobody where no URI can be such."""
    if not possible or len(matcher.safe_regex.regex.encode()) > ID_LIMIT:
        return Principal(not_id=Principal(any=True))
    return Principal(authenticated=Principal.Authenticated(principal_name=matcher))
