"""What the validating webhook says."""

from typing import Any

import pytest

from enforcer.validation import Verdict, review

PORT_RULE = {"to": [{"operation": {"ports": ["9000"]}}]}


def policy(spec: Any, **annotations: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "foo", "annotations": annotations},
        "spec": spec,
    }


def deny(*rules: Any) -> dict[str, Any]:
    return policy({"action": "DENY", "rules": list(rules)})


@pytest.mark.parametrize(
    "admitted",
    [
        policy(None),
        policy({}),
        policy({"rules": []}),
        policy({"rules": [{}]}),
        policy({"rules": [PORT_RULE]}),
        policy({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}),
        policy({"rules": [{"when": [{"key": "request.headers[x]", "values": ["a"]}]}]}),
        policy({"action": "AUDIT"}),
        policy({}, **{"istio.io/dry-run": "true"}),
        policy({"action": "CUSTOM", "rules": [{}], "provider": {"name": "a"}}),
        policy(
            {
                "action": "CUSTOM",
                "rules": [
                    {
                        "from": [{"source": {"ipBlocks": ["10.0.0.1"]}}],
                        "to": [{"operation": {"methods": ["GET"]}}],
                        "when": [{"key": "connection.sni", "values": ["a"]}],
                    }
                ],
                "provider": {"name": "a"},
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}],
            }
        ),
        deny({}),
        deny(PORT_RULE),
        deny({"to": [{"operation": {"notPorts": ["9000"], "methods": ["GET"]}}]}),
        deny({"when": [{"key": "request.auth.principal", "values": ["a"]}]}),
        deny({"from": [{"source": {"ipBlocks": ["10.0.0.1"], "requestPrincipals": ["*"]}}]}),
        deny({"from": [{"source": {"trustDomains": ["*"], "requestPrincipals": ["*"]}}]}),
        policy({"rules": [{"from": [{"source": {"principals": ["*"], "notNamespaces": ["a*b"]}}]}]}),
        policy({"rules": [{"from": [{"source": {"serviceAccounts": ["a", "b/c"]}}]}]}),
        policy({"rules": [{"from": [{"source": {"trustDomains": ["a", "a*", "*a", "*"]}}]}]}),
        policy({"rules": [{"when": [{"key": "source.trustDomain", "values": ["a/b"]}]}]}),
        policy({"rules": [{"when": [{"key": "connection.sni", "values": ["*.a"]}]}]}),
    ],
)
def test_admitted_in_silence(admitted: dict[str, Any]) -> None:
    assert review(admitted) == Verdict()


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (policy({"action": "DENY"}), "spec.rules: DENY without rules never matches"),
        (policy({"action": "DENY", "rules": []}), "spec.rules: DENY without rules never matches"),
        (policy({"action": "CUSTOM", "provider": {"name": "a"}}), "spec.rules: CUSTOM without rules"),
        (policy({"action": "CUSTOM", "rules": [{}]}), "spec.provider.name: CUSTOM needs the name"),
        (policy({"provider": {"name": "a"}}), "spec.provider: belongs to action CUSTOM only, not to ALLOW"),
        (
            policy(
                {
                    "action": "CUSTOM",
                    "rules": [{"from": [{"source": {"namespaces": ["a"]}}]}],
                    "provider": {"name": "a"},
                }
            ),
            "spec.rules[0]: source.namespace cannot be matched under action CUSTOM",
        ),
        (
            policy(
                {
                    "action": "CUSTOM",
                    "rules": [{}, {"when": [{"key": "request.auth.claims[a]", "values": ["b"]}]}],
                    "provider": {"name": "a"},
                }
            ),
            "spec.rules[1]: request.auth.claims[a] cannot be matched under action CUSTOM",
        ),
        (
            policy({"action": "AUDIT"}, **{"istio.io/dry-run": "false"}),
            "metadata.annotations[istio.io/dry-run]: is for ALLOW and DENY only, not for AUDIT",
        ),
        (
            policy({"action": "CUSTOM", "rules": [{}]}, **{"istio.io/dry-run": "true"}),
            "metadata.annotations[istio.io/dry-run]: is for ALLOW and DENY only, not for CUSTOM",
        ),
        (
            policy({}, **{"istio.io/dry-run": ""}),
            'metadata.annotations[istio.io/dry-run]: "" is not a boolean',
        ),
        *(
            (
                policy({"rules": [{"from": [{"source": {"serviceAccounts": [account]}}]}]}),
                f'spec.rules[0].from[0].source.serviceAccounts[0]: "{account}" {why}',
            )
            for account, why in (
                ("*", "has a wildcard"),
                ("a/b/c", "is neither"),
                ("/b", "is neither"),
                ("a/", "is neither"),
                ("a" * 321, "has more than 320 characters"),
            )
        ),
        (
            policy({"rules": [{"from": [{"source": {"serviceAccounts": ["a"], "notNamespaces": ["b"]}}]}]}),
            "spec.rules[0].from[0].source: serviceAccounts cannot stand together with notNamespaces",
        ),
        *(
            (
                policy({"rules": [{"from": [{"source": {"trustDomains": [domain]}}]}]}),
                f'spec.rules[0].from[0].source.trustDomains[0]: "{domain}" {why}',
            )
            for domain, why in (
                ("*a*", "has more than one wildcard"),
                ("a*b", "has a wildcard in the middle"),
                ("a/b", "has a `/`"),
            )
        ),
    ],
)
def test_refused_with_the_field_named(refused: dict[str, Any], error: str) -> None:
    verdict = review(refused)
    assert any(each.startswith(error) for each in verdict.errors), verdict.errors
    assert verdict.warnings == ()


def test_every_error_is_told_at_once() -> None:
    broken = deny({"to": [{"operation": {"ports": ["a", "1", "b"]}}]}, None)
    assert review(broken).errors == (
        'spec.rules[0].to[0].operation.ports[0]: "a" is not a port (0..65535)',
        'spec.rules[0].to[0].operation.ports[2]: "b" is not a port (0..65535)',
        "spec.rules[1]: null is not an object",
    )


def test_unknown_action_is_the_only_error() -> None:
    (error,) = review(policy({"action": "PERMIT"})).errors
    assert error == 'spec.action: "PERMIT" is not one of ALLOW, DENY, AUDIT, CUSTOM'


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"to": [{"operation": {"methods": ["GET"]}}]}, "spec.rules[0].to[0].operation"),
        (
            {"to": [{"operation": {"ports": ["1"]}}, {"operation": {"paths": ["/"]}}]},
            "spec.rules[0].to[1].operation",
        ),
        (
            {"from": [{"source": {"ipBlocks": ["10.0.0.1"]}}], "to": [{"operation": {"hosts": ["a"]}}]},
            "spec.rules[0].to[0].operation",
        ),
        (
            {"from": [{"source": {"principals": ["*"]}}], "to": [{"operation": {"hosts": ["a"]}}]},
            "spec.rules[0].to[0].operation",
        ),
        ({"from": [{"source": {"notRequestPrincipals": ["*"]}}]}, "spec.rules[0].from[0].source"),
    ],
)
def test_deny_that_widens_is_admitted_with_a_warning(rule: dict[str, Any], path: str) -> None:
    verdict = review(deny(rule))
    assert verdict.errors == ()
    (warning,) = verdict.warnings
    assert warning.startswith(f"{path}: has ")
    assert "denies all TCP traffic in its scope" in warning


def test_empty_selector_is_admitted_with_a_warning() -> None:
    (warning,) = review(policy({"selector": {}})).warnings
    assert warning.startswith("spec.selector: has no labels")


def test_custom_in_trial_mode_is_refused_once() -> None:
    spec: dict[str, Any] = {"action": "CUSTOM", "provider": {"name": "a"}, "rules": [{}]}
    reason = "metadata.annotations[istio.io/dry-run]: is for ALLOW and DENY only, not for CUSTOM"
    for value in ("true", "false"):
        assert review(policy(spec, **{"istio.io/dry-run": value})) == Verdict(errors=(reason,))


BROKEN = {"rules": [{"to": [{"operation": {"ports": ["http"]}}]}]}


def test_update_that_changes_nothing_judged_is_admitted() -> None:
    old = policy(BROKEN)
    relabelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert review(relabelled, old=old).errors == ()


@pytest.mark.parametrize(
    "new",
    [
        policy({"rules": [{"to": [{"operation": {"ports": ["https"]}}]}]}),
        policy(BROKEN, **{"istio.io/dry-run": "true"}),
    ],
)
def test_update_that_changes_something_judged_is_judged(new: dict[str, Any]) -> None:
    assert review(new, old=policy(BROKEN)).errors != ()


def peer_authentication(spec: Any, **annotations: Any) -> dict[str, Any]:
    return policy(spec, **annotations) | {"kind": "PeerAuthentication"}


WORKLOAD = {"matchLabels": {"app": "tcp-echo"}}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"mtls": None},
        *({"mtls": {"mode": mode}} for mode in ("STRICT", "PERMISSIVE", "DISABLE", "UNSET", None)),
        {"selector": WORKLOAD, "portLevelMtls": {"9000": {"mode": "STRICT"}, "65535": {}}},
    ],
)
def test_peer_authentication_is_admitted(spec: Any) -> None:
    assert review(peer_authentication(spec)) == Verdict()


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (
            {"mtls": {"mode": "MUTUAL"}},
            'spec.mtls.mode: "MUTUAL" is not one of UNSET, STRICT, PERMISSIVE, DISABLE',
        ),
        ({"mtls": {"mode": "strict"}}, 'spec.mtls.mode: "strict" is not one of'),
        ({"mtls": "STRICT"}, 'spec.mtls: "STRICT" is not an object'),
        ({"portLevelMtls": {"9000": {"mode": "STRICT"}}}, "spec.portLevelMtls: needs a selector with labels"),
        ({"selector": {}, "portLevelMtls": {"9000": {}}}, "spec.portLevelMtls: needs a selector with labels"),
        ({"selector": WORKLOAD, "portLevelMtls": {}}, "spec.portLevelMtls: is empty"),
        *(
            (
                {"selector": WORKLOAD, "portLevelMtls": {port: {"mode": "STRICT"}}},
                f'spec.portLevelMtls: "{port}" is not a port (1..65535)',
            )
            for port in ("0", "65536", "http", "-1", "080", "٣")
        ),
        (
            {"selector": WORKLOAD, "portLevelMtls": {"9000": {"mode": "NONE"}}},
            'spec.portLevelMtls[9000].mode: "NONE" is not one of',
        ),
        ({"selector": {"matchLabels": {"app": "*"}}}, 'spec.selector.matchLabels[app]: "*" has a wildcard'),
        ({"selector": {"matchLabels": {"": "a"}}}, "spec.selector.matchLabels: a label has an empty key"),
        ({"mtl": {}}, "spec.mtl: is not a known field"),
    ],
)
def test_peer_authentication_is_refused(spec: Any, error: str) -> None:
    verdict = review(peer_authentication(spec))
    assert any(each.startswith(error) for each in verdict.errors), verdict.errors


def test_peer_authentication_with_an_empty_selector_is_admitted_with_a_warning() -> None:
    verdict = review(peer_authentication({"selector": {}, "mtls": {"mode": "STRICT"}}))
    assert verdict.errors == ()
    assert verdict.warnings == (
        "spec.selector: has no labels, so the policy covers every workload of its namespace",
    )


@pytest.mark.parametrize("value", ["true", "false"])
def test_dry_run_on_another_kind_is_refused(value: str) -> None:
    errors = review(peer_authentication({}, **{"istio.io/dry-run": value})).errors
    assert errors == ("metadata.annotations[istio.io/dry-run]: is for AuthorizationPolicy only",)


def test_unknown_kind_is_refused() -> None:
    assert review({"kind": "Telemetry"}).errors == (
        'kind: "Telemetry" is not a kind that this webhook judges',
    )
