"""The configuration of one sidecar: a pure function of its policies, byte for byte the same for the same
input.

Every difference in the bytes of a filter chain makes Envoy replace that chain and, after the drain time,
cut all of its connections. So maps are serialized in a fixed order, and the version is a digest of the
content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, BindConfig, SocketAddress
from envoy.config.core.v3.base_pb2 import INBOUND, OUTBOUND, TrafficDirection
from envoy.config.core.v3.socket_option_pb2 import SocketOption
from envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
)
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from enforcer import ports, rbac
from enforcer.mesh import Exempt
from enforcer.policy import Policy
from enforcer.xds import access_log

CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
LISTENER_TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"
TYPES = (CLUSTER_TYPE, LISTENER_TYPE)
"""In the order of delivery: a listener must find its clusters."""

TO_WORKLOAD = "inbound-original-destination"
TO_OUTSIDE = "outbound-original-destination"

CONNECT_SECONDS = 5
LISTENER_FILTERS_SECONDS = 15
SOL_SOCKET, SO_MARK = 1, 36
NO_LIMIT = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Resources and their version, by xDS type. Equal versions mean equal bytes."""

    resources: Mapping[str, tuple[AnyMessage, ...]]
    versions: Mapping[str, str]


def build(policies: Sequence[Policy], *, exempt: Exempt, ipv6: bool) -> Snapshot:
    """The snapshot of a workload that these policies govern. `ipv6`: its network has IPv6 addresses."""
    resources = {
        CLUSTER_TYPE: (_pack(_passthrough(TO_WORKLOAD, exempt)), _pack(_passthrough(TO_OUTSIDE, exempt))),
        LISTENER_TYPE: (_pack(_inbound(policies, ipv6=ipv6)), _pack(_outbound(ipv6=ipv6))),
    }
    versions = {kind: _digest(messages) for kind, messages in resources.items()}
    return Snapshot(resources=resources, versions=versions)


def _digest(messages: Sequence[AnyMessage]) -> str:
    digest = hashlib.sha256()
    for message in messages:
        # The length keeps apart what one message ends and the next begins with.
        digest.update(len(message.value).to_bytes(8, "big") + message.value)
    return digest.hexdigest()[:16]


def _pack(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def _passthrough(name: str, exempt: Exempt) -> Cluster:
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
        upstream_bind_config=_marked() if exempt is Exempt.MARK else None,
    )


def _marked() -> BindConfig:
    """Envoy's own connections carry the mark that capture lets pass."""
    option = SocketOption(
        description="exempt from capture",
        level=SOL_SOCKET,
        name=SO_MARK,
        int_value=ports.MARK,
        state=SocketOption.STATE_PREBIND,
    )
    return BindConfig(socket_options=[option])


def _inbound(policies: Sequence[Policy], *, ipv6: bool) -> Listener:
    proxy = _tcp_proxy(TO_WORKLOAD, stat_prefix="inbound")
    proxy.access_log.append(access_log.inbound())
    filters = [*rbac.network_filters(policies), _filter("envoy.filters.network.tcp_proxy", proxy)]
    return _redirected(
        "inbound", ports.INBOUND, INBOUND, FilterChain(name="inbound", filters=filters), ipv6=ipv6
    )


def _outbound(*, ipv6: bool) -> Listener:
    proxy = _tcp_proxy(TO_OUTSIDE, stat_prefix="outbound")
    filters = [_filter("envoy.filters.network.tcp_proxy", proxy)]
    return _redirected(
        "outbound", ports.OUTBOUND, OUTBOUND, FilterChain(name="outbound", filters=filters), ipv6=ipv6
    )


def _redirected(
    name: str, port: int, direction: TrafficDirection, chain: FilterChain, *, ipv6: bool
) -> Listener:
    """A listener for redirected connections: the address it judges and dials is the original one.

    No listener filter reads bytes, so a client that waits for the server's first words is served at once.
    Both options about such filters are set all the same, lest a later filter bring the defaults with it.
    """
    return Listener(
        name=name,
        address=_address("0.0.0.0", port),
        additional_addresses=[AdditionalAddress(address=_address("::", port))] if ipv6 else (),
        traffic_direction=direction,
        listener_filters=[
            ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=_pack(OriginalDst()))
        ],
        listener_filters_timeout=Duration(seconds=LISTENER_FILTERS_SECONDS),
        continue_on_listener_filters_timeout=True,
        filter_chains=[_dead_end(ports.INBOUND), _dead_end(ports.OUTBOUND)],
        default_filter_chain=chain,
        tcp_backlog_size=UInt32Value(value=1024),
        enable_reuse_port=BoolValue(value=False),
    )


def _dead_end(port: int) -> FilterChain:
    """Closes what was addressed to Envoy's own port: its original destination is Envoy, for ever."""
    match = FilterChainMatch(destination_port=UInt32Value(value=port))
    return FilterChain(name=f"dead-end-{port}", filter_chain_match=match)


def _address(ip: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=ip, port_value=port))


def _tcp_proxy(cluster: str, *, stat_prefix: str) -> TcpProxy:
    # An idle connection is the application's business: 0 takes away the default limit of one hour.
    return TcpProxy(cluster=cluster, stat_prefix=stat_prefix, idle_timeout=Duration())


def _filter(name: str, config: Message) -> Filter:
    return Filter(name=name, typed_config=_pack(config))
