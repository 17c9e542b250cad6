"""A denied client's bytes reach the application; only the answer is withheld. The client sees a denial."""

import os
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from enforcer import inject
from enforcer.inject import Json
from enforcer.mesh import MeshOptions
from enforcer.peer_authentication import Modes
from enforcer.policy import Action, Policy
from enforcer.xds import inbound, pack, snapshot
from enforcer.xds.listeners import tcp_proxy
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
    address = pack.address("127.0.0.1", port + RELAY_OFFSET)
    endpoint = LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=Endpoint(address=address))])
    name = f"leak-{port}"
    assignment = ClusterLoadAssignment(cluster_name=name, endpoints=[endpoint])
    return Cluster(name=name, type=Cluster.STATIC, load_assignment=assignment)


def leaking_chain(chain: FilterChain, port: int) -> FilterChain:
    """The same way in, for this port alone, past all policies."""
    proxy = pack.network_filter(inbound.TCP_PROXY, tcp_proxy(f"leak-{port}", stat_prefix="leak"))
    copied = FilterChain()
    copied.CopyFrom(chain)
    copied.name = f"leak-{chain.name}-{port}"
    copied.filter_chain_match.destination_port.value = port
    del copied.filters[:]
    copied.filters.append(proxy)
    return copied


def main() -> None:
    build_inbound, build, sidecar = inbound.build, snapshot.build, inject._sidecar_container

    def leaking_inbound(policies: Sequence[Policy], modes: Modes, **more: Any) -> Listener:
        listener = build_inbound(policies, modes, **more)
        ways_in = [chain for chain in listener.filter_chains if not chain.name.startswith("dead-end")]
        listener.filter_chains.extend(
            leaking_chain(chain, port) for port in closed_ports(policies) for chain in ways_in
        )
        return listener

    def leaking_build(policies: Sequence[Policy], **more: Any) -> Snapshot:
        built = build(policies, **more)
        clusters = built.resources[snapshot.CLUSTER_TYPE]
        clusters += tuple(pack.pack(leak(port)) for port in APPLICATION_PORTS)
        return Snapshot(
            resources={**built.resources, snapshot.CLUSTER_TYPE: clusters},
            versions={**built.versions, snapshot.CLUSTER_TYPE: pack.digest(clusters)},
        )

    def leaking_sidecar(options: MeshOptions, root: str) -> Json:
        command = ["python3", "-m", "tests.mutants.enforcers.answer_withheld"]
        return {**sidecar(options, root), "command": command}

    inbound.build, snapshot.build, inject._sidecar_container = (
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
