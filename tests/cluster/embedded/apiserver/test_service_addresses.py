"""Cluster IPs of both address families, as Kubernetes gives them."""

from typing import Any

import pytest

from conformance.cluster.embedded.apiserver.service_addresses import assign_addresses

Spec = dict[str, Any]


def assigned(spec: Spec, *others: Spec, ipv6: bool = True, live: Spec | None = None) -> Spec:
    """The stored spec of a Service with a selector. Raises ValueError with what is wrong."""
    stored = [{"metadata": {"uid": str(number)}, "spec": other} for number, other in enumerate(others)]
    service = {"metadata": {"uid": "own"}, "spec": {"selector": {"app": "x"}, **spec}}
    found, errors = assign_addresses(service, stored, live=live and {"spec": live}, ipv6=ipv6)
    if errors:
        raise ValueError(f"{errors[0].path}: {errors[0].message}")
    return {name: found["spec"].get(name) for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")}


@pytest.mark.parametrize("ipv6", [False, True])
def test_one_family_unless_asked(ipv6: bool) -> None:
    wanted = {"clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
    assert assigned({}, ipv6=ipv6) == wanted


@pytest.mark.parametrize(
    ("spec", "families", "addresses"),
    [
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], ["10.96.0.10", "fd00:10:96::a"]),
        ({"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], ["10.96.0.10", "fd00:10:96::a"]),
        (
            {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            ["fd00:10:96::a", "10.96.0.10"],
        ),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"], ["fd00:10:96::a"]),
        ({"clusterIP": "fd00:10:96::77"}, ["IPv6"], ["fd00:10:96::77"]),
        (
            {"ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.96.9.9"},
            ["IPv4", "IPv6"],
            ["10.96.9.9", "fd00:10:96::a"],
        ),
        ({"clusterIP": "None", "ipFamilies": ["IPv6"]}, ["IPv6"], ["None"]),
        ({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], ["None"]),
    ],
)
def test_families_that_are_asked_for(spec: Spec, families: list[str], addresses: list[str]) -> None:
    found = assigned(spec)
    assert (found["ipFamilies"], found["clusterIPs"]) == (families, addresses)


def test_a_preference_is_none_where_there_is_one_family() -> None:
    found = assigned({"ipFamilyPolicy": "PreferDualStack"}, ipv6=False)
    assert (found["ipFamilies"], found["clusterIPs"]) == (["IPv4"], ["10.96.0.10"])


@pytest.mark.parametrize("ipv6", [False, True])
def test_headless_without_a_selector_is_of_both_families(ipv6: bool) -> None:
    wanted = {"clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    assert assigned({"clusterIP": "None", "selector": None}, ipv6=ipv6) == wanted


@pytest.mark.parametrize(
    ("spec", "ipv6", "message"),
    [
        ({"ipFamilyPolicy": "RequireDualStack"}, False, r"ipFamilyPolicy: .* not configured for dual-stack"),
        ({"ipFamilies": ["IPv6"]}, False, r"ipFamilies\[0\]: .*not configured on this cluster"),
        ({"clusterIP": "fd00:10:96::77"}, False, r"ipFamilies\[0\]: .*not configured on this cluster"),
        ({"ipFamilies": ["IPv6", "IPv4"]}, True, r"ipFamilyPolicy: .*may only be 'RequireDualStack'"),
        ({"ipFamilies": ["IPv5"]}, True, r'ipFamilies\[0\]: Unsupported value: "IPv5"'),
        ({"ipFamilyPolicy": "Both"}, True, r'ipFamilyPolicy: Unsupported value: "Both"'),
        (
            {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"},
            True,
            r"ipFamilies\[1\]: Duplicate value",
        ),
        ({"clusterIP": "fd00::1"}, True, r"range of valid IPs is fd00:10:96::/112"),
        ({"clusterIP": "fd00:10:96::77", "ipFamilies": ["IPv4"]}, True, r"expected an IPv4 value"),
        ({"clusterIP": "fd00:10:96::99"}, True, r"provided IP is already allocated"),
    ],
)
def test_what_cannot_be_had_is_refused(spec: Spec, ipv6: bool, message: str) -> None:
    taken = {"clusterIP": "10.96.0.99", "clusterIPs": ["10.96.0.99", "fd00:10:96::99"]}
    with pytest.raises(ValueError, match=message):
        assigned(spec, taken, ipv6=ipv6)


def test_a_second_family_comes_and_goes_and_the_first_stays() -> None:
    one = assigned({"clusterIP": "10.96.9.9"})
    two = assigned({**one, "ipFamilyPolicy": "PreferDualStack"}, live=one)
    assert two["clusterIPs"] == ["10.96.9.9", "fd00:10:96::a"]
    assert assigned({**two, "ipFamilyPolicy": "SingleStack"}, live=two) == one
    with pytest.raises(ValueError, match=r"ipFamilies\[0\]: .*may not change once set"):
        assigned({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}, live=one)


def test_no_address_is_given_twice() -> None:
    first = assigned({"ipFamilyPolicy": "PreferDualStack"})
    assert assigned({"ipFamilyPolicy": "PreferDualStack"}, first)["clusterIPs"] == [
        "10.96.0.11",
        "fd00:10:96::b",
    ]
