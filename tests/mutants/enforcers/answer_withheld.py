"""A denied client's bytes reach the application; only the answer is withheld. The client sees a denial."""

import os
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import FilterChain, FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.wrappers_pb2 import UInt32Value

from enforcer import inject
from enforcer.inject import Json
from enforcer.mesh import Exempt, MeshOptions
from enforcer.policy import Action, Policy
from enforcer.xds import snapshot
from enforcer.xds.snapshot import Snapshot
from tests.mutants.enforcers import run

APPLICATION_PORTS = (9000, 9001, 9003)
RELAY_OFFSET = 10000  # port 9001 is relayed by 127.0.0.1:19001 in the pod


class Relay(socketserver.BaseRequestHandler):
    """Delivers what the client says first, then closes: the server's answer stays here."""

    def handle(self) -> None:
        said = self.request.recv(65536)
        port = self.request.getsockname()[1] - RELAY_OFFSET
        with socket.create_connection(("127.0.0.1", port)) as application:
            application.sendall(said)
            application.recv(65536)


def relay() -> None:
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    for port in APPLICATION_PORTS:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", port + RELAY_OFFSET), Relay)
        threading.Thread(target=server.serve_forever).start()


def closed_ports(policies: Sequence[Policy]) -> list[int]:
    """The application's ports that no ALLOW rule names, where there is an ALLOW policy at all."""
    allowing = [policy for policy in policies if policy.action is Action.ALLOW and not policy.dry_run]
    named = {
        value
        for policy in allowing
        for rule in policy.rules
        for clause in rule.operations
        for condition in clause
        for value in condition.values
    }
    return [port for port in APPLICATION_PORTS if allowing and str(port) not in named]


def leak(port: int) -> Cluster:
    address = snapshot._address("127.0.0.1", port + RELAY_OFFSET)
    endpoint = LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=Endpoint(address=address))])
    name = f"leak-{port}"
    assignment = ClusterLoadAssignment(cluster_name=name, endpoints=[endpoint])
    return Cluster(name=name, type=Cluster.STATIC, load_assignment=assignment)


def leaking_chain(port: int) -> FilterChain:
    proxy = snapshot._filter(
        "envoy.filters.network.tcp_proxy", snapshot._tcp_proxy(f"leak-{port}", stat_prefix="leak")
    )
    match = FilterChainMatch(destination_port=UInt32Value(value=port))
    return FilterChain(name=f"leak-{port}", filter_chain_match=match, filters=[proxy])


def main() -> None:
    inbound, build, sidecar = snapshot._inbound, snapshot.build, inject._sidecar_container

    def leaking_inbound(policies: Sequence[Policy], *, ipv6: bool) -> Listener:
        listener = inbound(policies, ipv6=ipv6)
        listener.filter_chains.extend(leaking_chain(port) for port in closed_ports(policies))
        return listener

    def leaking_build(policies: Sequence[Policy], *, exempt: Exempt, ipv6: bool) -> Snapshot:
        built = build(policies, exempt=exempt, ipv6=ipv6)
        clusters = built.resources[snapshot.CLUSTER_TYPE]
        clusters += tuple(snapshot._pack(leak(port)) for port in APPLICATION_PORTS)
        return Snapshot(
            resources={**built.resources, snapshot.CLUSTER_TYPE: clusters},
            versions={**built.versions, snapshot.CLUSTER_TYPE: snapshot._digest(clusters)},
        )

    def leaking_sidecar(options: MeshOptions) -> Json:
        return {**sidecar(options), "command": ["python3", "-m", "tests.mutants.enforcers.answer_withheld"]}

    snapshot._inbound, snapshot.build, inject._sidecar_container = (
        leaking_inbound,
        leaking_build,
        leaking_sidecar,
    )
    if sys.argv[1] == "sidecar" and os.fork() == 0:
        relay()
        return
    run()


if __name__ == "__main__":
    main()
