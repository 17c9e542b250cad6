"""ClusterIPs lead to their backends, through real connections."""

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


def test_more_services_than_one_transaction_holds(node: Node, pod: str, server: str) -> None:
    assert node.run(cases.many_services, backend=server, pod=pod) == f"{host_of(server)} {pod}"
    node.run(cases.program, rules=[])
