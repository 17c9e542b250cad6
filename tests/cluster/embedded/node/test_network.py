"""Pods reach each other by their addresses."""

import pytest

from conformance.cluster.embedded.node.network import second_address
from tests.cluster.embedded import node_cases as cases
from tests.cluster.embedded.node_cases import host_of
from tests.cluster.embedded.node_harness import Node


def test_pods_reach_each_other_and_see_each_others_address(node: Node, pod: str, server: str) -> None:
    assert node.run(cases.ask, pod=pod, ip=server, port=9000) == f"{host_of(server)} {pod}"
    assert node.run(cases.ask, pod=pod, ip=server, port=9001) == "ConnectionRefusedError"
    assert node.run(cases.ask_from_node, ip=server, port=9000).startswith(host_of(server))


@pytest.mark.usefixtures("ipv6")
def test_pods_reach_each_other_by_their_second_addresses(node: Node, pod: str, server: str) -> None:
    there, here = second_address(server), second_address(pod)
    assert node.run(cases.ask, pod=pod, ip=there, port=9000) == f"{host_of(server)} {here}"
    assert node.run(cases.ask, pod=pod, ip=there, port=9001) == "ConnectionRefusedError"
    assert node.run(cases.ask_from_node, ip=there, port=9000).startswith(host_of(server))


def test_a_removed_sandbox_takes_its_processes_along_and_frees_its_address(node: Node, free_ip: str) -> None:
    assert node.run(cases.make_and_remove, ip=free_ip) == [137, 137, 137]


def test_the_same_address_cannot_be_given_twice(node: Node, pod: str) -> None:
    with pytest.raises(RuntimeError, match=r"RuntimeFailure: network of twice .*File exists"):
        node.run(cases.make_twice, ip=pod)
