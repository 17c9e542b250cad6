"""The oracle says what the catalogue says, requirement by requirement."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import conformance.oracle as oracle
from conformance.oracle import (
    Authorizer,
    Connection,
    Decision,
    Destination,
    Mesh,
    Source,
    Undecided,
    Verdict,
    decide,
)

MESH = Mesh(root_namespace="root")
SLEEP = Source(namespace="foo", service_account="sleep", ip="10.0.0.1", meshed=True)
PLAIN = replace(SLEEP, meshed=False)
ECHO = Destination(
    namespace="foo", ip="10.0.0.9", port=9000, labels={"app": "tcp-echo", "version": "v1"}, injected=True
)
Rules = list[dict[str, Any]]


def policy(action: str | None, rules: Rules | None = None, name: str = "p", **rest: Any) -> dict[str, Any]:
    spec = {"action": action, "rules": rules, **rest.pop("spec", {})}
    spec = {key: value for key, value in spec.items() if value is not None}
    metadata = {"name": name, "namespace": rest.pop("namespace", "foo")}
    if "dry_run" in rest:
        metadata["annotations"] = {"istio.io/dry-run": rest.pop("dry_run")}
    return {"kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec, **rest}


def asked(
    *documents: dict[str, Any],
    source: Source = SLEEP,
    port: int = 9000,
    destination: Destination = ECHO,
    sni: str = "",
    mesh: Mesh = MESH,
) -> Decision:
    connection = Connection(source=source, destination=replace(destination, port=port), sni=sni)
    return decide(documents, connection, mesh)


def to(*ports: str) -> dict[str, Any]:
    return {"to": [{"operation": {"ports": list(ports)}}]}


def source(**fields: list[str]) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


def when(key: str, **lists: list[str]) -> dict[str, Any]:
    return {"when": [{"key": key, **lists}]}


def matches(rule: dict[str, Any], action: str = "DENY", **connection: Any) -> bool:
    verdict = asked(policy(action, [rule]), **connection).verdict
    return verdict is (Verdict.DENIED if action == "DENY" else Verdict.ALLOWED)


def says(decision: Decision) -> tuple[str, list[str]]:
    return decision.verdict.value, [str(rule) for rule in decision.matching]


def test_it_shares_nothing_with_anybody() -> None:
    for file in Path(oracle.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                known = name.startswith("conformance.oracle") or name in sys.stdlib_module_names
                assert known or name.split(".")[0] in sys.stdlib_module_names, f"{file.name} imports {name}"


def test_without_a_policy_everything_is_allowed() -> None:
    assert says(asked()) == ("allowed", [])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, "denied"),
        ({}, "denied"),
        ({"rules": []}, "denied"),
        ({"rules": [{}]}, "allowed"),
        ({"rules": [{"to": None}]}, "allowed"),
        ({"rules": [{"from": [], "to": []}]}, "allowed"),
        ({"action": "DENY", "rules": [{}]}, "denied"),
        ({"action": "DENY", "rules": [{"when": None}]}, "denied"),
        ({"action": "ALLOW"}, "denied"),
    ],
)
def test_what_absence_means(spec: Any, expected: str) -> None:
    document = {**policy("ALLOW"), "spec": spec}
    assert asked(document).verdict.value == expected


def test_deny_comes_before_allow_and_a_miss_names_nobody() -> None:
    both = (policy("ALLOW", [to("9000", "9001")], "a"), policy("DENY", [to("9001")], "d"))
    assert says(asked(*both)) == ("allowed", ["foo/a rule 0"])
    assert says(asked(*both, port=9001)) == ("denied", ["foo/d rule 0"])
    assert says(asked(*both, port=9002)) == ("denied", [])
    assert says(asked(both[1], port=9002)) == ("allowed", [])


def test_all_matching_rules_are_named_in_the_order_proxies_sort_them() -> None:
    documents = [policy("DENY", [{} for _ in range(11)], "b"), policy("DENY", [{}], "B")]
    names = [str(rule) for rule in asked(*documents).matching]
    assert names[:4] == ["foo/B rule 0", "foo/b rule 0", "foo/b rule 10", "foo/b rule 1"]
    assert len(names) == 12


def test_audit_is_noted_and_decides_nothing() -> None:
    decision = asked(policy("AUDIT", [{}], "a"))
    assert says(decision) == ("allowed", [])
    assert [str(rule) for rule in decision.audited] == ["foo/a rule 0"]
    assert asked(policy("AUDIT", [{}]), policy("ALLOW", [to("9001")], "q")).verdict is Verdict.DENIED


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (to("9000"), True),
        (to("9001", "9000"), True),
        (to("9001"), False),
        (to("09000"), True),
        ({"to": [{"operation": {"notPorts": ["9001"]}}]}, True),
        ({"to": [{"operation": {"ports": ["9000"], "notPorts": ["9000"]}}]}, False),
        ({"to": [{"operation": {"ports": ["1"]}}, {"operation": {"ports": ["9000"]}}]}, True),
        (when("destination.port", values=["9000"]), True),
        (when("destination.port", values=["9000", "1"], notValues=["9000"]), False),
        (when("destination.ip", values=["10.0.0.9"]), True),
        (when("destination.ip", values=["10.96.0.9"]), False),
        (source(ipBlocks=["10.0.0.1"]), True),
        (source(ipBlocks=["10.0.0.77/24"]), True),
        (source(ipBlocks=["10.0.0.2", "fd00::/8"]), False),
        (source(notIpBlocks=["10.0.0.2"]), True),
        (source(remoteIpBlocks=["10.0.0.0/31"]), True),
        (source(notRemoteIpBlocks=["10.0.0.1"]), False),
        (when("source.ip", notValues=["10.0.0.1"]), False),
        (when("remote.ip", values=["10.0.0.1"]), True),
        ({**source(ipBlocks=["10.0.0.1"]), **to("9001")}, False),
        ({**source(ipBlocks=["10.0.0.1"]), **to("9000"), **when("destination.port", values=["1"])}, False),
    ],
)
@pytest.mark.parametrize("who", [SLEEP, PLAIN], ids=["mtls", "plaintext"])
def test_ports_and_addresses_need_no_identity(rule: dict[str, Any], expected: bool, who: Source) -> None:
    assert matches(rule, source=who) is expected
    assert matches(rule, "ALLOW", source=who) is expected


PRINCIPAL = "cluster.local/ns/foo/sa/sleep"
IDENTITY_CASES = [
    ("principals", "source.principal", PRINCIPAL, True),
    ("principals", "source.principal", "cluster.local/ns/foo/sa/slee", False),
    ("principals", "source.principal", "cluster.local/ns/foo/*", True),
    ("principals", "source.principal", "*/sa/sleep", True),
    ("principals", "source.principal", "*", True),
    ("principals", "source.principal", f"spiffe://{PRINCIPAL}", False),
    ("principals", "source.principal", "cluster.local/ns/foo/sa/Sleep", False),
    ("principals", "source.principal", "*foo*", False),
    ("principals", "source.principal", "cluster.local/*/sa/sleep", False),
    ("principals", "source.principal", "*ns.foo/sa/sleep", False),
    ("namespaces", "source.namespace", "foo", True),
    ("namespaces", "source.namespace", "f*", True),
    ("namespaces", "source.namespace", "*o", True),
    ("namespaces", "source.namespace", "f*o", True),
    ("namespaces", "source.namespace", "*", True),
    ("namespaces", "source.namespace", "f.o", False),
    ("namespaces", "source.namespace", "fo", False),
    ("namespaces", "source.namespace", "Foo", False),
    ("serviceAccounts", "source.serviceAccount", "foo/sleep", True),
    ("serviceAccounts", "source.serviceAccount", "sleep", True),
    ("serviceAccounts", "source.serviceAccount", "bar/sleep", False),
    ("serviceAccounts", "source.serviceAccount", "foo/slee.", False),
    ("trustDomains", "source.trustDomain", "cluster.local", True),
    ("trustDomains", "source.trustDomain", "cluster*", True),
    ("trustDomains", "source.trustDomain", "*.local", True),
    ("trustDomains", "source.trustDomain", "*", True),
    ("trustDomains", "source.trustDomain", "clusterxlocal", False),
]


@pytest.mark.parametrize(("field", "key", "value", "expected"), IDENTITY_CASES)
def test_identity(field: str, key: str, value: str, expected: bool) -> None:
    negated = f"not{field[0].upper()}{field[1:]}"
    positive = [source(**{field: [value]}), when(key, values=[value])]
    negative = [source(**{negated: [value]}), when(key, notValues=[value])]
    for rule in positive:
        assert matches(rule) is expected
        assert matches(rule, source=PLAIN) is False
    for rule in negative:
        assert matches(rule) is not expected
        assert matches(rule, source=PLAIN) is True


def test_a_bare_account_is_of_the_policys_own_namespace() -> None:
    rule = source(serviceAccounts=["sleep"])
    bar = replace(SLEEP, namespace="bar")
    assert not matches(rule, source=bar)
    in_root = policy("DENY", [rule], namespace="root")
    assert asked(in_root, source=replace(SLEEP, namespace="root")).verdict is Verdict.DENIED
    assert asked(in_root).verdict is Verdict.ALLOWED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("td/ns/foo/sa/sleep", True),
        ("old/ns/foo/sa/sleep", True),
        ("cluster.local/ns/foo/sa/sleep", True),
        ("other/ns/foo/sa/sleep", False),
        ("old/*", False),
    ],
)
def test_aliases_of_the_trust_domain(value: str, expected: bool) -> None:
    mesh = Mesh(root_namespace="root", trust_domain="td", aliases=("old",))
    assert matches(source(principals=[value]), mesh=mesh) is expected


def test_exact_trust_domains_know_aliases_but_not_the_local_one() -> None:
    mesh = Mesh(root_namespace="root", trust_domain="td", aliases=("old",))
    assert matches(source(trustDomains=["old"]), mesh=mesh)
    assert not matches(source(trustDomains=["cluster.local"]), mesh=mesh)


@pytest.mark.parametrize(
    ("value", "sni", "expected"),
    [
        ("a.b", "a.b", True),
        ("a*", "a.b", True),
        ("*b", "a.b", True),
        ("*", "a.b", True),
        ("a.c", "a.b", False),
        ("*", "", False),
    ],
)
def test_sni(value: str, sni: str, expected: bool) -> None:
    assert matches(when("connection.sni", values=[value]), sni=sni) is expected
    assert matches(when("connection.sni", notValues=[value]), sni=sni) is not expected


HTTP = [
    {"to": [{"operation": {name: ["x"]}}]}
    for name in ("hosts", "methods", "paths", "notHosts", "notMethods", "notPaths")
]
HTTP += [source(requestPrincipals=["x"]), source(notRequestPrincipals=["x"])]
HTTP += [
    when(f"request.{name}", values=["x"])
    for name in ("headers[a]", "auth.principal", "auth.audiences", "auth.presenter", "auth.claims[a][b]")
]


@pytest.mark.parametrize("rule", HTTP, ids=str)
def test_http_conditions_drop_allow_rules_and_widen_deny_rules(rule: dict[str, Any]) -> None:
    assert not matches(rule, "ALLOW")
    assert matches(rule, "DENY")
    narrowed = {**rule, **when("destination.port", values=["9000"])} if "when" not in rule else None
    if narrowed:
        assert not matches(narrowed, "ALLOW")
        assert matches(narrowed, "DENY")
        assert not matches(narrowed, "DENY", port=9001)
    assert asked(policy("AUDIT", [rule])).audited


def test_one_http_entry_drops_or_opens_its_whole_rule() -> None:
    rule = {"to": [{"operation": {"ports": ["9000"]}}, {"operation": {"methods": ["GET"]}}]}
    assert not matches(rule, "ALLOW")
    assert matches(rule, "DENY", port=9001)
    assert says(asked(policy("ALLOW", [rule, to("9000")]))) == ("allowed", ["foo/p rule 1"])


@pytest.mark.parametrize(
    ("namespace", "spec", "expected"),
    [
        ("foo", {}, True),
        ("bar", {}, False),
        ("root", {}, True),
        ("foo", {"selector": {"matchLabels": {"app": "tcp-echo"}}}, True),
        ("foo", {"selector": {"matchLabels": {"app": "tcp"}}}, False),
        ("foo", {"selector": {"matchLabels": {"app": "tcp-echo", "tier": "x"}}}, False),
        ("foo", {"selector": {}}, True),
        ("root", {"selector": {"matchLabels": {"version": "v1"}}}, True),
        ("root", {"selector": {"matchLabels": {"version": "v2"}}}, False),
        ("foo", {"targetRefs": [{"kind": "Gateway", "name": "g"}]}, False),
        ("foo", {"targetRef": {"kind": "Gateway", "name": "g"}}, False),
    ],
)
def test_scope(namespace: str, spec: dict[str, Any], expected: bool) -> None:
    document = policy("DENY", [{}], namespace=namespace, spec=spec)
    assert (asked(document).verdict is Verdict.DENIED) is expected


def test_nothing_is_enforced_where_there_is_no_sidecar() -> None:
    bare = replace(ECHO, injected=False)
    assert asked(policy("DENY", [{}]), destination=bare).verdict is Verdict.ALLOWED


def test_dry_run_policies_are_decided_among_themselves() -> None:
    tried = policy("ALLOW", [to("9000")], "t", dry_run="true")
    decision = asked(tried, port=9001)
    assert decision.verdict is Verdict.ALLOWED
    assert decision.dry_run_allow is not None
    assert (decision.dry_run_allow.allowed, decision.dry_run_deny) == (False, None)
    denied = asked(tried, policy("DENY", [{}], "d"), policy("DENY", [to("1")], "u", dry_run="1"))
    assert denied.dry_run_allow is not None
    assert denied.dry_run_deny is not None
    assert (denied.dry_run_allow.allowed, denied.dry_run_allow.visible) == (True, False)
    assert (denied.dry_run_deny.allowed, denied.dry_run_deny.visible) == (True, True)
    http = asked(policy("ALLOW", [HTTP[1]], dry_run="t"))
    assert http.dry_run_allow is not None
    assert not http.dry_run_allow.allowed


AUTHORIZERS = {
    "x": Authorizer(denies=frozenset({9001})),
    "unknown-answer": Authorizer(),
    "down": Authorizer(answers=False),
    "open": Authorizer(answers=False, fail_open=True),
    "http": Authorizer(grpc=False),
}
KNOWING = replace(MESH, authorizers=AUTHORIZERS)


def custom(provider: str, *rules: dict[str, Any], name: str = "c") -> dict[str, Any]:
    return policy("CUSTOM", list(rules) or [{}], name, spec={"provider": {"name": provider}})


@pytest.mark.parametrize(
    ("provider", "port", "verdict", "why"),
    [
        ("x", 9000, Verdict.ALLOWED, "no ALLOW policy"),
        ("x", 9001, Verdict.DENIED, "the external authorizer x denies"),
        ("nobody", 9000, Verdict.DENIED, "knows no external authorizer nobody"),
        ("down", 9000, Verdict.DENIED, "down does not answer"),
        ("open", 9001, Verdict.ALLOWED, "no ALLOW policy"),
        ("http", 9001, Verdict.ALLOWED, "no ALLOW policy"),
    ],
)
def test_custom(provider: str, port: int, verdict: Verdict, why: str) -> None:
    decision = asked(custom(provider), port=port, mesh=KNOWING)
    assert decision.verdict is verdict
    assert why in decision.why
    assert [str(rule) for rule in decision.matching] == (
        ["foo/c rule 0"] if verdict is Verdict.DENIED else []
    )


def test_custom_comes_first_and_admits_nothing() -> None:
    closing = [custom("x"), policy("DENY", [{}], "d"), policy("AUDIT", [{}], "u")]
    tried = policy("ALLOW", [{}], "t", dry_run="true")
    denied = asked(*closing, tried, port=9001, mesh=KNOWING)
    assert [rule.name for rule in denied.matching] == ["c"]
    assert denied.audited == ()
    assert denied.dry_run_allow is not None
    assert not denied.dry_run_allow.visible
    assert [rule.name for rule in asked(*closing, mesh=KNOWING).matching] == ["d"]
    assert asked(custom("x"), policy("ALLOW"), mesh=KNOWING).verdict is Verdict.DENIED
    assert asked(custom("x"), policy("ALLOW", [{}]), port=9001, mesh=KNOWING).verdict is Verdict.DENIED


def test_the_authorizer_is_asked_for_what_its_rules_match_only() -> None:
    assert asked(custom("x", to("9000")), port=9001, mesh=KNOWING).verdict is Verdict.ALLOWED
    assert asked(custom("nobody", to("9000")), port=9001, mesh=KNOWING).verdict is Verdict.ALLOWED
    for rule in (rule for rule in HTTP if "equest" not in str(rule) or "headers" in str(rule)):
        assert asked(custom("nobody", rule), mesh=KNOWING).verdict is Verdict.DENIED


def test_a_workload_has_one_authorizer() -> None:
    two = [custom("x", to("9000")), custom("open", to("9002"), name="b")]
    assert "several external authorizers: open, x" in asked(*two, mesh=KNOWING).why
    assert asked(*two, port=9002, mesh=KNOWING).verdict is Verdict.DENIED
    assert asked(*two, port=9001, mesh=KNOWING).verdict is Verdict.ALLOWED


@pytest.mark.parametrize(("provider", "mesh"), [("x", MESH), ("unknown-answer", KNOWING)])
def test_what_somebody_else_decides_is_not_guessed(provider: str, mesh: Mesh) -> None:
    custom = policy("CUSTOM", [{}], spec={"provider": {"name": provider}})
    with pytest.raises(Undecided, match=r"the answer of the external authorizer .* decides"):
        asked(custom, mesh=mesh)
    assert asked({**custom, "metadata": {"name": "p", "namespace": "bar"}}).verdict is Verdict.ALLOWED


def test_the_reasons_name_the_condition_that_failed() -> None:
    rule = {**source(namespaces=["bar"], ipBlocks=["10.0.0.1"]), **to("9000")}
    (finding,) = asked(policy("ALLOW", [rule])).policies
    assert finding.rules[0].reasons == (f"namespaces [bar] does not hold for {PRINCIPAL}",)
