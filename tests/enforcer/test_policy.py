"""Reading documents: what absence means, what is refused, and what stands in for the unreadable."""

from typing import Any

import pytest

from enforcer.attributes import Layer
from enforcer.errors import PolicyError
from enforcer.policy import Action, Condition, Policy, Rule, parse, parse_or_refuse


def document(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "foo", **metadata},
        "spec": spec,
    }


def rule(**parts: Any) -> dict[str, Any]:
    return document({"rules": [parts]})


def ports(*values: str) -> Condition:
    return Condition(key="destination.port", layer=Layer.TCP, values=values)


def test_metadata_is_kept() -> None:
    policy = parse(document({}, uid="u", resourceVersion="7", creationTimestamp="2024-01-01T00:00:00Z"))
    assert policy == Policy(
        namespace="foo", name="p", uid="u", resource_version="7", created="2024-01-01T00:00:00Z"
    )


@pytest.mark.parametrize("spec", [None, {}, {"rules": None}, {"rules": []}, {"action": None}])
def test_absence_is_allow_without_rules(spec: Any) -> None:
    assert parse(document(spec)) == Policy(namespace="foo", name="p", action=Action.ALLOW, rules=())


def test_absent_spec_is_an_empty_one() -> None:
    whole = document({})
    del whole["spec"]
    assert parse(whole) == parse(document({}))


@pytest.mark.parametrize(
    "parts", [{}, {"from": None}, {"from": [], "to": [], "when": []}, {"to": None, "when": None}]
)
def test_empty_parts_of_a_rule_ask_nothing(parts: dict[str, Any]) -> None:
    assert parse(rule(**parts)).rules == (Rule(),)


def test_fields_become_conditions() -> None:
    policy = parse(
        rule(
            **{
                "from": [{"source": {"ipBlocks": ["10.0.0.0/8"], "notIpBlocks": ["10.0.0.1"]}}],
                "to": [{"operation": {"ports": ["9000", "0080"]}}, {"operation": {"methods": ["GET"]}}],
                "when": [{"key": "destination.port", "values": ["1"], "notValues": ["2"]}],
            }
        )
    )
    assert policy.rules == (
        Rule(
            sources=(
                (
                    Condition(key="source.ip", layer=Layer.TCP, values=("10.0.0.0/8",)),
                    Condition(key="source.ip", layer=Layer.TCP, not_values=("10.0.0.1",)),
                ),
            ),
            operations=(
                (ports("9000", "0080"),),
                (Condition(key="request.method", layer=Layer.HTTP, values=("GET",)),),
            ),
            when=(Condition(key="destination.port", layer=Layer.TCP, values=("1",), not_values=("2",)),),
        ),
    )


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_dry_run_is_on(value: str) -> None:
    assert parse(document({}, annotations={"istio.io/dry-run": value})).dry_run


@pytest.mark.parametrize("value", ["0", "f", "F", "FALSE", "false", "False"])
def test_dry_run_is_off(value: str) -> None:
    assert not parse(document({}, annotations={"istio.io/dry-run": value})).dry_run


@pytest.mark.parametrize("value", ["", "yes", "tRUE", " true", "2", None, True])
def test_dry_run_takes_no_other_value(value: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(document({}, annotations={"istio.io/dry-run": value}))
    assert caught.value.path == "metadata.annotations[istio.io/dry-run]"


TO = "spec.rules[0].to[0].operation"
FROM = "spec.rules[0].from[0].source"
WHEN = "spec.rules[0].when[0]"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        *(
            (
                rule(to=[{"operation": {"ports": ["1", port]}}]),
                f'{TO}.ports[1]: "{port}" is not a port (0..65535)',
            )
            for port in ("http", "80-90", "*", "+80", "65536", "-1", " 80", "8_0", "٣", "9" * 40)
        ),
        (rule(to=[{"operation": {"ports": [80]}}]), f"{TO}.ports[0]: 80 is not a string"),
        (rule(to=[{"operation": {"notPorts": [""]}}]), f'{TO}.notPorts[0]: "" is empty'),
        (rule(to=[{"operation": {"methods": [""]}}]), f'{TO}.methods[0]: "" is empty'),
        (rule(to=[{"operation": {"ports": "80"}}]), f'{TO}.ports: "80" is not a list'),
        *(
            (
                rule(**{"from": [{"source": {"ipBlocks": [block]}}]}),
                f'{FROM}.ipBlocks[0]: "{block}" is not a CIDR range',
            )
            for block in ("10.0.0.0/33", "10.0.0.0/", "10.0.0.0/255.0.0.0", "10.0.0.0/08", "::/129", "a/8")
        ),
        *(
            (
                rule(**{"from": [{"source": {"notRemoteIpBlocks": [block]}}]}),
                f'{FROM}.notRemoteIpBlocks[0]: "{block}" is not an IP address',
            )
            for block in ("10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", "localhost", " 10.0.0.1")
        ),
        (
            rule(when=[{"key": "destination.ip", "notValues": ["x"]}]),
            f'{WHEN}.notValues[0]: "x" is not an IP address',
        ),
        (
            rule(when=[{"key": "destination.port", "values": ["x"]}]),
            f'{WHEN}.values[0]: "x" is not a port (0..65535)',
        ),
        (
            rule(when=[{"key": "request.method", "values": ["GET"]}]),
            f'{WHEN}.key: "request.method" is not a known',
        ),
        (rule(when=[{"key": "request.headers", "values": ["a"]}]), "must be written request.headers[name]"),
        (rule(when=[{"key": "request.headers[]", "values": ["a"]}]), "must be written request.headers[name]"),
        (rule(when=[{"key": "destination.labels[app]", "values": ["a"]}]), "use the policy's selector"),
        (rule(when=[{"values": ["a"]}]), f"{WHEN}.key: must name an attribute"),
        (rule(when=[{"key": "", "values": ["a"]}]), f"{WHEN}.key: must name an attribute"),
        (rule(when=[{"key": "source.ip"}]), f'{WHEN}: "source.ip" needs values or notValues'),
        (rule(when=[{"key": "source.ip", "values": []}]), f'{WHEN}: "source.ip" needs values or notValues'),
        (rule(**{"from": [{}]}), f"{FROM}: is empty"),
        (rule(**{"from": [{"source": {}}]}), f"{FROM}: is empty"),
        (rule(**{"from": [{"source": {"ipBlocks": []}}]}), f"{FROM}: is empty"),
        (rule(to=[{"operation": None}]), f"{TO}: is empty"),
        (rule(to=[None]), "spec.rules[0].to[0]: null is not an object"),
        (rule(to=[{"operation": {"port": ["80"]}}]), f"{TO}.port: is not a known field"),
        (rule(form=[]), "spec.rules[0].form: is not a known field"),
        (document({"rules": [None]}), "spec.rules[0]: null is not an object"),
        (document({"rules": {}}), "spec.rules: {} is not a list"),
        (document("x"), 'spec: "x" is not an object'),
        (document({"action": "allow"}), 'spec.action: "allow" is not one of ALLOW, DENY, AUDIT, CUSTOM'),
        (
            document({"selector": {"matchLabels": {"app": "a*"}}}),
            'spec.selector.matchLabels[app]: "a*" has a',
        ),
        (document({"selector": {"matchLabels": {"": "a"}}}), "a label has an empty key"),
        (
            document({"selector": {}, "targetRefs": [{"kind": "Service", "name": "a"}]}),
            "spec: only one of selector and targetRefs can be set",
        ),
        (
            document({name: {"kind": "Service", "name": "a"} for name in ("targetRef", "targetRefs")}),
            "spec: only one of targetRef and targetRefs can be set",
        ),
    ],
)
def test_refused(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(broken)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("principals", "source.principal"),
        ("namespaces", "source.namespace"),
        ("serviceAccounts", "source.serviceAccount"),
        ("trustDomains", "source.trustDomain"),
    ],
)
def test_identity_fields_and_keys_are_one_attribute(field: str, key: str) -> None:
    negative = f"not{field[0].upper()}{field[1:]}"
    fields = parse(rule(**{"from": [{"source": {field: ["a"], negative: ["b"]}}]}))
    keys = parse(rule(when=[{"key": key, "values": ["a"], "notValues": ["b"]}]))
    assert fields.rules[0].sources == (
        (
            Condition(key=key, layer=Layer.TLS, values=("a",)),
            Condition(key=key, layer=Layer.TLS, not_values=("b",)),
        ),
    )
    assert keys.rules[0].when == (Condition(key=key, layer=Layer.TLS, values=("a",), not_values=("b",)),)
    assert fields.unsupported == keys.unsupported == ()


def test_server_names_are_supported() -> None:
    policy = parse(rule(when=[{"key": "connection.sni", "values": ["www.example.com"]}]))
    assert policy.rules[0].when[0].key == "connection.sni"
    assert policy.unsupported == ()


def test_custom_has_a_provider() -> None:
    spec = {"action": "CUSTOM", "rules": [{}], "provider": {"name": "a"}}
    policy = parse(document(spec))
    assert (policy.provider, policy.unsupported) == ("a", ())


@pytest.mark.parametrize("provider", [None, {}, {"name": None}, {"name": ""}])
def test_custom_without_a_provider_cannot_be_enforced(provider: Any) -> None:
    policy = parse(document({"action": "CUSTOM", "rules": [{}], "provider": provider}))
    assert policy.unsupported == ("spec.provider.name: CUSTOM needs the name of an external authorizer",)


@pytest.mark.parametrize(
    ("provider", "problem"),
    [
        ("a", 'spec.provider: "a" is not an object'),
        ({"name": 1}, "spec.provider.name: 1 is not a string"),
        ({"name": "a", "kind": "b"}, "spec.provider.kind: is not a known field"),
    ],
)
def test_a_provider_that_cannot_be_read(provider: Any, problem: str) -> None:
    unsupported = parse_or_refuse(
        document({"action": "CUSTOM", "rules": [{}], "provider": provider})
    ).unsupported
    assert problem in unsupported


@pytest.mark.parametrize(
    "target", [{"targetRef": {"kind": "Service"}}, {"targetRefs": [{"kind": "Service"}]}]
)
def test_target_references(target: dict[str, Any]) -> None:
    assert parse(document(target)).targets_gateway


def test_unreadable_selector_stands_for_the_whole_namespace() -> None:
    policy = parse_or_refuse(document({"selector": {"matchLabels": {"app": "*"}}, "rules": [{}]}))
    assert policy.selector is None
    assert policy.unsupported == (
        'spec.selector.matchLabels[app]: "*" has a wildcard; labels are matched exactly',
    )


def test_unreadable_action_stands_for_deny() -> None:
    assert parse_or_refuse(document({"action": "PERMIT"})).action is Action.DENY


def test_selector_beside_target_references_does_not_let_the_policy_vanish() -> None:
    both = document({"selector": {}, "targetRefs": [{"kind": "Service", "name": "a"}]})
    assert not parse_or_refuse(both).targets_gateway


def test_readable_documents_are_refused_nothing() -> None:
    assert parse_or_refuse(rule(to=[{"operation": {"ports": ["1"]}}])).unsupported == ()
