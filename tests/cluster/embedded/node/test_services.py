"""ClusterIPs lead to their backends, through real connections."""

import pytest

from conformance.cluster.embedded.node.network import GATEWAY6, second_address
from tests.cluster.embedded import node_cases as cases
from tests.cluster.embedded.node_cases import host_of
from tests.cluster.embedded.node_harness import Node


def test_a_cluster_ip_leads_to_its_backend_and_keeps_the_source(node: Node, pod: str, server: str) -> None:
    node.run(cases.program, rules=[["10.96.7.1", 80, [[server, 9000]]], ["10.96.7.2", 80, []]])
    assert node.run(cases.ask, pod=pod, ip="10.96.7.1", port=80) == f"{host_of(server)} {pod}"
    assert node.run(cases.ask, pod=server, ip="10.96.7.1", port=80) == f"{host_of(server)} 169.254.1.1"
    assert node.run(cases.ask_from_node, ip="10.96.7.1", port=80).startswith(host_of(server))


def test_the_api_server_answers_as_the_kubernetes_service(node: Node, pod: str) -> None:
    assert node.run(cases.ask, pod=pod, ip="10.96.0.1", port=443) == f"the API server greets {pod}"


def test_a_service_without_backends_refuses_at_once(node: Node, pod: str, server: str) -> None:
    node.run(cases.program, rules=[["10.96.7.1", 80, [[server, 9000]]], ["10.96.7.2", 80, []]])
    assert node.run(cases.ask, pod=pod, ip="10.96.7.2", port=80) == "ConnectionRefusedError"
    assert node.run(cases.ask, pod=pod, ip="10.96.7.1", port=81) == "ConnectionRefusedError"
    node.run(cases.program, rules=[])
    assert node.run(cases.ask, pod=pod, ip="10.96.7.1", port=80) == "ConnectionRefusedError"


def test_every_backend_gets_connections(node: Node, server: str, pod: str) -> None:
    node.run(cases.serve, ip=pod)
    node.run(cases.program, rules=[["10.96.7.3", 80, [[server, 9000], [pod, 9000]]]])
    # 60 connections all to one of two backends: 1 in 2 ** 59.
    answers = node.run(cases.spread, ip="10.96.7.3", times=60)
    assert [answer.split()[0] for answer in answers] == sorted([host_of(server), host_of(pod)])


@pytest.mark.usefixtures("ipv6")
def test_a_cluster_ip_of_the_second_family(node: Node, pod: str, server: str) -> None:
    there, here = second_address(server), second_address(pod)
    both = [["10.96.7.1", 80, [[server, 9000]]], ["fd00:10:96::71", 80, [[there, 9000]]]]
    node.run(cases.program, rules=both)
    assert node.run(cases.ask, pod=pod, ip="fd00:10:96::71", port=80) == f"{host_of(server)} {here}"
    assert node.run(cases.ask, pod=pod, ip="10.96.7.1", port=80) == f"{host_of(server)} {pod}"
    # A pod that reached itself sees the node, in the same family.
    assert node.run(cases.ask, pod=server, ip="fd00:10:96::71", port=80) == f"{host_of(server)} {GATEWAY6}"
    assert node.run(cases.ask_from_node, ip="fd00:10:96::71", port=80).startswith(host_of(server))
    # No backend, no such port, no Service: refused at once, from a pod and from the node.
    node.run(cases.program, rules=[both[0], ["fd00:10:96::71", 80, []]])
    for address, port in (("fd00:10:96::71", 80), ("fd00:10:96::71", 81), ("fd00:10:96::72", 80)):
        assert node.run(cases.ask, pod=pod, ip=address, port=port) == "ConnectionRefusedError"
    with pytest.raises(RuntimeError, match="ConnectionRefusedError"):
        node.run(cases.ask_from_node, ip="fd00:10:96::71", port=80)


def test_more_services_than_one_transaction_holds(node: Node, pod: str, server: str) -> None:
    assert node.run(cases.many_services, backend=server, pod=pod) == f"{host_of(server)} {pod}"
    node.run(cases.program, rules=[])
