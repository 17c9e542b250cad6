"""The schemas in manifests/crds, as an API server applies them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.cluster.embedded.apiserver.schema import StructuralSchema

CRDS = Path(__file__).parents[2] / "manifests" / "crds"


def definition(plural: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    return loaded


def schema(plural: str = "authorizationpolicies") -> StructuralSchema:
    return StructuralSchema.compile(definition(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def policy(spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


def problems(spec: Any, plural: str = "authorizationpolicies") -> list[str]:
    return [error.path for error in schema(plural).validate(policy(spec))]


@pytest.mark.parametrize("plural", ["authorizationpolicies", "peerauthentications"])
def test_versions_are_equal_and_v1_is_stored(plural: str) -> None:
    v1, v1beta1 = definition(plural)["spec"]["versions"]
    assert (v1["name"], v1["served"], v1["storage"]) == ("v1", True, True)
    assert (v1beta1["name"], v1beta1["served"], v1beta1["storage"]) == ("v1beta1", True, False)
    assert {**v1, "name": "", "storage": ""} == {**v1beta1, "name": "", "storage": ""}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"action": "PERMIT"}, "spec.action"),
        ({"action": ""}, "spec.action"),
        ({"rules": [None]}, "spec.rules[0]"),
        ({"rules": [{}] * 513}, "spec.rules"),
        ({"rules": [{"from": [{}] * 513}]}, "spec.rules[0].from"),
        ({"targetRefs": [{"kind": "Service", "name": "a"}] * 17}, "spec.targetRefs"),
        ({"rules": [{"to": [{"operation": {"ports": [80]}}]}]}, "spec.rules[0].to[0].operation.ports[0]"),
        ({"rules": [{"when": [{"values": ["a"]}]}]}, "spec.rules[0].when[0].key"),
        (
            {"rules": [{"from": [{"source": {"serviceAccounts": ["a"] * 17}}]}]},
            "spec.rules[0].from[0].source.serviceAccounts",
        ),
    ],
)
def test_refused_by_the_schema(spec: Any, path: str) -> None:
    assert problems(spec) == [path]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"rules": [{}] * 512},
        {"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.1"]}}] * 512}]},
        {"targetRefs": [{"kind": "Service", "name": "a"}] * 16},
    ],
)
def test_taken_by_the_schema(spec: Any) -> None:
    assert problems(spec) == []


def test_blank_parts_of_a_rule_are_pruned() -> None:
    pruned, unknown = schema().prune(policy({"rules": [{"to": None, "from": None, "when": None}]}))
    assert pruned["spec"] == {"rules": [{}]}
    assert unknown == []


def test_unknown_fields_are_pruned_and_named() -> None:
    pruned, unknown = schema().prune(policy({"rules": [{"to": [{"operation": {"port": ["80"]}}]}]}))
    assert pruned["spec"] == {"rules": [{"to": [{"operation": {}}]}]}
    assert unknown == ["spec.rules[0].to[0].operation.port"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"mtls": {"mode": "STRICT"}, "portLevelMtls": {"9000": {"mode": "DISABLE"}}}, []),
        ({"mtls": {"mode": "MUTUAL"}}, ["spec.mtls.mode"]),
        ({"portLevelMtls": {}}, ["spec.portLevelMtls"]),
    ],
)
def test_peer_authentication_schema(spec: Any, expected: list[str]) -> None:
    assert problems(spec, "peerauthentications") == expected
