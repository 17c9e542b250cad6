"""From Services and pods to endpoints and packet rules: the pure parts."""

from conformance.cluster.embedded.controllers.endpoints import (
    Object,
    endpoints_of,
    ports_of,
    selects,
    slice_of,
)
from conformance.cluster.embedded.controllers.proxy import rules_of, second_rules_of
from conformance.cluster.embedded.node.runtime import ServiceRule


def service(ports: list[Object], cluster_ip: str = "10.96.0.7") -> Object:
    return {
        "metadata": {"name": "tcp-echo", "namespace": "foo"},
        "spec": {"clusterIP": cluster_ip, "ports": ports, "selector": {"app": "tcp-echo"}},
    }


def pod(name: str, ip: str) -> Object:
    container = {"name": "c", "ports": [{"name": "tcp", "containerPort": 9000}]}
    return {
        "metadata": {"name": name, "namespace": "foo", "uid": name, "labels": {"app": "tcp-echo", "v": "1"}},
        "spec": {"containers": [container]},
        "status": {"podIP": ip},
    }


def test_a_selector_is_a_subset_match() -> None:
    assert selects({"app": "tcp-echo"}, pod("a", "10.244.0.1"))
    assert not selects({"app": "tcp-echo", "v": "2"}, pod("a", "10.244.0.1"))


def test_a_named_target_port_is_looked_up_in_the_containers() -> None:
    named = service([{"name": "x", "port": 80, "targetPort": "tcp"}])
    assert ports_of(named, [pod("a", "10.244.0.1")])[0]["port"] == 9000
    assert ports_of(named, []) == []


def test_ready_and_waiting_pods_stand_apart() -> None:
    item = service([{"name": "x", "port": 80, "targetPort": 9000}])
    ready, waiting = pod("ready", "10.244.0.1"), pod("waiting", "10.244.0.2")
    subset = endpoints_of(item, [ready], [waiting])["subsets"][0]
    assert [address["ip"] for address in subset["addresses"]] == ["10.244.0.1"]
    assert [address["ip"] for address in subset["notReadyAddresses"]] == ["10.244.0.2"]
    endpoints = slice_of(item, [ready], [waiting], "IPv4")["endpoints"]
    assert [endpoint["conditions"]["ready"] for endpoint in endpoints] == [True, False]


def test_only_ready_pods_become_backends() -> None:
    item = service([{"name": "x", "port": 80, "targetPort": 9000}])
    endpoints = endpoints_of(item, [pod("a", "10.244.0.1")], [pod("b", "10.244.0.2")])
    assert rules_of(item, endpoints) == [
        ServiceRule(cluster_ip="10.96.0.7", port=80, backends=(("10.244.0.1", 9000),))
    ]


def test_each_family_has_its_endpoints() -> None:
    item = service([{"name": "x", "port": 80, "targetPort": 9000}])
    item["spec"] |= {"clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"]}
    both = pod("a", "10.244.0.1")
    both["status"]["podIPs"] = [{"ip": "10.244.0.1"}, {"ip": "fd00::1"}]
    endpoints = endpoints_of(item, [both], [])
    assert [address["ip"] for address in endpoints["subsets"][0]["addresses"]] == ["10.244.0.1"]
    slices = [slice_of(item, [both, pod("b", "10.244.0.2")], [], family) for family in ("IPv4", "IPv6")]
    assert [found["metadata"]["name"] for found in slices] == ["tcp-echo", "tcp-echo.ipv6"]
    assert [found["addressType"] for found in slices] == ["IPv4", "IPv6"]
    # A pod without an address of the family is no endpoint there.
    assert [[e["addresses"] for e in found["endpoints"]] for found in slices] == [
        [["10.244.0.1"], ["10.244.0.2"]],
        [["fd00::1"]],
    ]
    assert second_rules_of(item, slices) == [
        ServiceRule(cluster_ip="fd00::7", port=80, backends=(("fd00::1", 9000),))
    ]


def test_a_service_of_the_other_family_alone() -> None:
    item = service([{"name": "x", "port": 80, "targetPort": 9000}], cluster_ip="fd00::7")
    item["spec"] |= {"clusterIPs": ["fd00::7"], "ipFamilies": ["IPv6"]}
    both = pod("a", "10.244.0.1")
    both["status"]["podIPs"] = [{"ip": "10.244.0.1"}, {"ip": "fd00::1"}]
    rules = [ServiceRule(cluster_ip="fd00::7", port=80, backends=(("fd00::1", 9000),))]
    assert rules_of(item, endpoints_of(item, [both], [])) == rules
    assert second_rules_of(item, []) == []


def test_a_service_without_pods_keeps_a_rule_that_refuses() -> None:
    item = service([{"name": "x", "port": 80, "targetPort": 9000}])
    assert rules_of(item, None) == [ServiceRule(cluster_ip="10.96.0.7", port=80, backends=())]


def test_a_headless_service_has_no_rule() -> None:
    assert rules_of(service([{"port": 80}], cluster_ip="None"), None) == []
