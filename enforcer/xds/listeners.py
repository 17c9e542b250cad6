"""What inbound and outbound listeners have in common: they take redirected connections."""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import BindConfig
from envoy.config.core.v3.base_pb2 import TrafficDirection, TransportSocket
from envoy.config.core.v3.socket_option_pb2 import SocketOption
from envoy.config.listener.v3.listener_components_pb2 import FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from enforcer import ports
from enforcer.mesh import Exempt
from enforcer.xds.pack import address, pack

CONNECT_SECONDS = 5
DETECTION = Duration(nanos=500_000_000)
"""How long a listener filter waits for a client's first bytes where it must tell TLS from plaintext.

A plaintext client that says nothing pays it once per connection, and then is served. Longer than a sidecar on
a busy node needs from its connect to its first TLS record, because whose record is late counts as plaintext;
shorter than any client's patience for a server's greeting. Envoy's own 15 s would be longer than most.
"""
SOL_SOCKET, SO_MARK = 1, 36
NO_LIMIT = 0xFFFFFFFF


def passthrough(name: str, exempt: Exempt, *, transport_socket: TransportSocket | None = None) -> Cluster:
    """Dials the address that the connection was redirected from."""
    threshold = CircuitBreakers.Thresholds(
        # The default of 1,024 connections would refuse what no policy forbids.
        max_connections=UInt32Value(value=NO_LIMIT),
        max_pending_requests=UInt32Value(value=NO_LIMIT),
    )
    return Cluster(
        name=name,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=Duration(seconds=CONNECT_SECONDS),
        circuit_breakers=CircuitBreakers(thresholds=[threshold]),
        upstream_bind_config=marked() if exempt is Exempt.MARK else None,
        transport_socket=transport_socket,
    )


def marked() -> BindConfig:
    """Envoy's own connections carry the mark that capture lets pass."""
    option = SocketOption(
        description="exempt from capture",
        level=SOL_SOCKET,
        name=SO_MARK,
        int_value=ports.MARK,
        state=SocketOption.STATE_PREBIND,
    )
    return BindConfig(socket_options=[option])


def redirected(
    name: str,
    port: int,
    direction: TrafficDirection,
    chains: Sequence[FilterChain],
    *,
    ipv6: bool,
    filters: Sequence[ListenerFilter] = (),
) -> Listener:
    """A listener for redirected connections: the address it judges and dials is the original one.

    Both options about listener filters that wait for bytes are set even where there is none, lest a later one
    bring the defaults with it.
    """
    return Listener(
        name=name,
        address=address("0.0.0.0", port),
        additional_addresses=[AdditionalAddress(address=address("::", port))] if ipv6 else (),
        traffic_direction=direction,
        listener_filters=[
            ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=pack(OriginalDst())),
            *filters,
        ],
        listener_filters_timeout=DETECTION,
        continue_on_listener_filters_timeout=True,
        filter_chains=[_dead_end(ports.INBOUND), _dead_end(ports.OUTBOUND), *chains],
        tcp_backlog_size=UInt32Value(value=1024),
        enable_reuse_port=BoolValue(value=False),
    )


def _dead_end(port: int) -> FilterChain:
    """Closes what was addressed to Envoy's own port: its original destination is Envoy, for ever."""
    match = FilterChainMatch(destination_port=UInt32Value(value=port))
    return FilterChain(name=f"dead-end-{port}", filter_chain_match=match)


def tcp_proxy(cluster: str, *, stat_prefix: str) -> TcpProxy:
    # An idle connection is the application's business: 0 takes away the default limit of one hour.
    return TcpProxy(cluster=cluster, stat_prefix=stat_prefix, idle_timeout=Duration())
