"""The oracle refuses what the API refuses, says where, and warns of what the API warns of."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.oracle import Invalid, validate


def document(spec: Any, annotations: dict[str, Any] | None = None, kind: str = "AuthorizationPolicy") -> Any:
    return {"kind": kind, "metadata": {"name": "p", "annotations": annotations or {}}, "spec": spec}


def deny(rule: Any, action: str = "DENY") -> dict[str, Any]:
    return {"action": action, "rules": [rule]}


def source(**fields: Any) -> dict[str, Any]:
    return deny({"from": [{"source": fields}]})


def port(*values: Any) -> dict[str, Any]:
    return deny({"to": [{"operation": {"ports": list(values)}}]})


def when(key: str, **lists: Any) -> dict[str, Any]:
    return deny({"when": [{"key": key, **lists}]})


CUSTOM = {"action": "CUSTOM", "provider": {"name": "x"}}
REFUSED: list[tuple[Any, str]] = [
    ({"action": "BLOCK"}, "spec.action"),
    ({"action": "deny"}, "spec.action"),
    ({"action": "DENY"}, "spec.rules"),
    ({"action": "DENY", "rules": []}, "spec.rules"),
    ({**CUSTOM, "rules": []}, "spec.rules"),
    *((port(value), "ports[0]") for value in ("http", "80-90", "*", "+80", "65536", "-1", "9" * 6000)),
    (port("9000", 9001), "ports[1]"),
    (when("destination.port", values=["99999"]), "values[0]"),
    *(
        (source(ipBlocks=[value]), "ipBlocks[0]")
        for value in ("10.0.0.256", "10.0.0.0/33", "sleep", "10.0.0.*", "10.0.0.0/255.0.0.0", "fe80::1%eth0")
    ),
    (source(notRemoteIpBlocks=["x"]), "notRemoteIpBlocks[0]"),
    (when("source.ip", notValues=["nowhere"]), "notValues[0]"),
    (source(principals=["a", ""]), "principals[1]"),
    (port(""), "ports[0]"),
    (when("source.namespace", values=[""]), "values[0]"),
    (source(), "source"),
    (source(principals=[]), "source"),
    (deny({"from": [{}]}), "source"),
    (deny({"to": [{}]}), "operation"),
    (deny({"to": [{"operation": {}}]}), "operation"),
    (when("source.port", values=["1"]), "key"),
    (when("", values=["1"]), "key"),
    (when("request.headers", values=["1"]), "key"),
    (deny({"when": [{"values": ["1"]}]}), "key"),
    (when("source.namespace"), "when[0]"),
    (when("source.namespace", values=[]), "when[0]"),
    ({"selector": {"matchLabels": {"a": "b"}}, "targetRefs": [{"kind": "G", "name": "g"}]}, "spec.selector"),
    ({"selector": {"matchLabels": {"app": "tcp*"}}}, "matchLabels"),
    ({"selector": {"matchLabels": {"*": "b"}}}, "matchLabels"),
    ({"selector": {"matchLabels": {"": "b"}}}, "matchLabels"),
    (source(serviceAccounts=["a"], principals=["b"]), "serviceAccounts"),
    (source(notServiceAccounts=["a"], namespaces=["b"]), "notServiceAccounts"),
    (source(serviceAccounts=["a"] * 17), "serviceAccounts"),
    (source(serviceAccounts=["a*"]), "serviceAccounts[0]"),
    (source(serviceAccounts=["a" * 321]), "serviceAccounts[0]"),
    (source(serviceAccounts=["a/b/c"]), "serviceAccounts[0]"),
    (source(serviceAccounts=["a/"]), "serviceAccounts[0]"),
    (source(serviceAccounts=["/a"]), "serviceAccounts[0]"),
    (source(trustDomains=["*a*"]), "trustDomains[0]"),
    (source(trustDomains=["a*b"]), "trustDomains[0]"),
    (source(trustDomains=["a/b"]), "trustDomains[0]"),
    (when("source.trustDomain", values=["a*b"]), "values[0]"),
    ({"action": "CUSTOM", "rules": [{}]}, "spec.provider"),
    ({**deny({}), "provider": {"name": "x"}}, "spec.provider"),
    ({**CUSTOM, **source(namespaces=["a"]), "action": "CUSTOM"}, "namespaces"),
    ({**CUSTOM, **when("source.principal", values=["a"]), "action": "CUSTOM"}, "key"),
    ({**CUSTOM, **source(requestPrincipals=["*"]), "action": "CUSTOM"}, "requestPrincipals"),
    ({**CUSTOM, **source(notRequestPrincipals=["*"]), "action": "CUSTOM"}, "notRequestPrincipals"),
    ({**CUSTOM, **when("request.auth.claims[a]", values=["a"]), "action": "CUSTOM"}, "key"),
    ({"rules": [{}] * 513}, "spec.rules"),
    (deny({"from": [{"source": {"principals": ["a"]}}] * 513}), "from"),
    ({"targetRefs": [{"kind": "G", "name": "g"}] * 17}, "targetRefs"),
    ({"rules": [None]}, "spec.rules[0]"),
    ({"rules": [{"to": [None]}]}, "to[0]"),
    (port(None), "ports[0]"),
    ([], "spec"),
]


@pytest.mark.parametrize(("spec", "where"), REFUSED)
def test_refused(spec: Any, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate(document(spec))
    assert caught.value.path.endswith(where)
    assert caught.value.why


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {"selector": None, "action": None},
        port("0", "65535", "0080"),
        source(ipBlocks=["10.1.2.3/8", "fd00::1", "::/0"]),
        source(serviceAccounts=["a", "n/a"], trustDomains=["td"]),
        source(trustDomains=["*"]),
        when("source.trustDomain", values=["a/b"]),
        when("request.auth.claims[a][b]", values=["x"]),
        {**CUSTOM, "rules": [{}]},
        {"rules": [{}] * 512},
        {"action": "AUDIT"},
    ],
)
def test_accepted(spec: Any) -> None:
    validate(document(spec))


@pytest.mark.parametrize("value", ["yes", "", "TrUe", "on", True, None])
def test_dry_run_values(value: Any) -> None:
    with pytest.raises(Invalid, match="no boolean"):
        validate(document({}, {"istio.io/dry-run": value}))


def test_dry_run_belongs_to_allow_and_deny() -> None:
    for spelling in ("1", "t", "T", "TRUE", "true", "True"):
        assert validate(document({}, {"istio.io/dry-run": spelling})).dry_run
    for spelling in ("0", "f", "F", "FALSE", "false", "False"):
        assert not validate(document({}, {"istio.io/dry-run": spelling})).dry_run
    for wrong in (
        document({"action": "AUDIT"}, {"istio.io/dry-run": "false"}),
        document({}, {"istio.io/dry-run": "true"}, kind="PeerAuthentication"),
    ):
        with pytest.raises(Invalid, match="dry-run"):
            validate(wrong)


def test_unknown_fields_are_refused_when_strict_and_dropped_with_a_warning_when_not() -> None:
    spec = {"rules": [{"from": [{"source": {"namespaces": ["a"], "ipBlock": ["10.0.0.1"]}}]}]}
    with pytest.raises(Invalid, match="unknown field"):
        validate(document(spec), strict=True)
    valid = validate(document(spec))
    assert valid.spec["rules"][0]["from"][0]["source"] == {"namespaces": ["a"]}
    assert valid.warnings == ('unknown field "spec.rules[0].from[0].source.ipBlock"',)
    with pytest.raises(Invalid, match="must not be empty"):
        validate(document({"rules": [{"from": [{"source": {"namespace": ["a"]}}]}]}))


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"selector": {}}, True),
        ({"selector": {"matchLabels": {}}}, True),
        (deny({"to": [{"operation": {"methods": ["GET"]}}]}), True),
        (deny({"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"ports": ["1"]}}]}), True),
        (deny({"to": [{"operation": {"methods": ["GET"], "notPorts": ["1"]}}]}), False),
        (source(requestPrincipals=["*"]), True),
        (source(requestPrincipals=["*"], namespaces=["a"]), False),
        (when("request.headers[a]", values=["x"]), False),
        (deny({"to": [{"operation": {"methods": ["GET"]}}]}, "ALLOW"), False),
        (deny({}), False),
    ],
)
def test_warnings(spec: Any, warned: bool) -> None:
    assert bool(validate(document(spec)).warnings) is warned


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"portLevelMtls": {9000: {"mode": "STRICT"}}}, "spec.portLevelMtls"),
        (
            {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"70000": {"mode": "STRICT"}}},
            "spec.portLevelMtls.70000",
        ),
        ({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {}}, "spec.portLevelMtls"),
        ({"mtls": {"mode": "MUTUAL"}}, "spec.mtls.mode"),
        ({"selector": {"matchLabels": {"a": "*"}}}, "spec.selector.matchLabels"),
    ],
)
def test_peer_authentication(spec: Any, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate(document(spec, kind="PeerAuthentication"))
    assert caught.value.path == where
