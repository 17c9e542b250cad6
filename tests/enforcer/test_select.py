"""Which policies govern a pod."""

from collections.abc import Mapping

import pytest

from enforcer.policy import Policy
from enforcer.select import govern

ROOT = "authz-system"


def policy(
    name: str, *, namespace: str = "foo", selector: Mapping[str, str] | None = None, gateway: bool = False
) -> Policy:
    return Policy(namespace=namespace, name=name, selector=selector, targets_gateway=gateway)


def governing(*policies: Policy, namespace: str = "foo", **labels: str) -> list[str]:
    chosen = govern(policies, namespace=namespace, labels=labels, root_namespace=ROOT)
    return [f"{each.namespace}/{each.name}" for each in chosen]


def test_own_namespace_only() -> None:
    assert governing(policy("a"), policy("b", namespace="bar")) == ["foo/a"]


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (None, {}, True),
        ({}, {}, True),
        ({"app": "x"}, {"app": "x", "version": "v1"}, True),
        ({"app": "x", "version": "v1"}, {"app": "x", "version": "v1"}, True),
        ({"app": "x", "version": "v2"}, {"app": "x", "version": "v1"}, False),
        ({"app": "x"}, {"app": "xy"}, False),
        ({"app": "x"}, {}, False),
        ({"app": "X"}, {"app": "x"}, False),
        ({"app": ""}, {}, False),
    ],
)
def test_selector_is_a_subset_of_the_labels(
    selector: Mapping[str, str] | None, labels: dict[str, str], expected: bool
) -> None:
    assert (governing(policy("a", selector=selector), **labels) == ["foo/a"]) is expected


def test_root_namespace_covers_the_mesh() -> None:
    mesh = policy("mesh", namespace=ROOT)
    assert governing(mesh, namespace="foo") == governing(mesh, namespace="bar") == [f"{ROOT}/mesh"]


def test_root_namespace_with_a_selector_covers_matching_workloads_everywhere() -> None:
    mesh = policy("mesh", namespace=ROOT, selector={"app": "x"})
    assert governing(mesh, namespace="bar", app="x") == [f"{ROOT}/mesh"]
    assert governing(mesh, namespace="bar", app="y") == []


def test_root_and_namespace_policies_add_up() -> None:
    assert governing(policy("p"), policy("p", namespace=ROOT)) == [f"{ROOT}/p", "foo/p"]


def test_root_namespace_governs_its_own_pods_once() -> None:
    assert governing(policy("p", namespace=ROOT), namespace=ROOT) == [f"{ROOT}/p"]


def test_policies_for_gateways_have_no_effect() -> None:
    assert governing(policy("a", gateway=True), policy("b", namespace=ROOT, gateway=True)) == []


def test_order_is_by_namespace_and_name() -> None:
    policies = [policy("b"), policy("c", namespace=ROOT), policy("a")]
    assert governing(*policies) == governing(*reversed(policies)) == [f"{ROOT}/c", "foo/a", "foo/b"]
