"""The way out: mutual TLS to Services of the mesh, everything else as the application sent it.

A Service is told by its cluster IP, and dialled at it: which of its endpoints takes the connection stays the
cluster's business, and so a pod that comes, goes or fails its probe changes nothing here. The configuration
is the same for every sidecar, because the certificate it presents has the same name everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.core.v3.base_pb2 import OUTBOUND, TransportSocket
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import UInt32Value

from enforcer import ports
from enforcer.destinations import Destination
from enforcer.mesh import Exempt, Trust
from enforcer.xds.listeners import passthrough, redirected, tcp_proxy
from enforcer.xds.pack import network_filter, pack
from enforcer.xds.tls import client_socket

TO_OUTSIDE = "outbound-original-destination"
TCP_PROXY = "envoy.filters.network.tcp_proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """Packed once for all sidecars of one kind of network."""

    clusters: tuple[AnyMessage, ...]
    listener: AnyMessage


def build(destinations: Sequence[Destination], *, trust: Trust, exempt: Exempt, ipv6: bool) -> Outbound:
    """The outbound half of a snapshot. `destinations` are those that take mutual TLS, in a fixed order."""
    clusters = [passthrough(TO_OUTSIDE, exempt)]
    chains = []
    for destination in destinations:
        socket = client_socket_of(destination, trust)
        clusters.append(passthrough(cluster_name(destination), exempt, transport_socket=socket))
        chains.append(_chain(destination))
    listener = redirected("outbound", ports.OUTBOUND, OUTBOUND, chains, ipv6=ipv6)
    listener.default_filter_chain.CopyFrom(FilterChain(name="outbound", filters=[_proxy(TO_OUTSIDE)]))
    return Outbound(clusters=tuple(map(pack, clusters)), listener=pack(listener))


def cluster_name(destination: Destination) -> str:
    return f"outbound|{destination.port}||{destination.host}"


def server_name(destination: Destination) -> str:
    """The name in the TLS hello, `connection.sni` of the server's policies; spelt as in Istio."""
    return f"outbound_.{destination.port}_._.{destination.host}"


def client_socket_of(destination: Destination, trust: Trust) -> TransportSocket:
    """Mutual TLS to a Service, which must be one of its identities."""
    return client_socket(_uris(destination, trust), sni=server_name(destination))


def _uris(destination: Destination, trust: Trust) -> Iterable[str]:
    for identity in destination.identities:
        # While a trust domain is being renamed, its workloads have certificates of either name.
        yield from (identity.uri(domain) for domain in trust.domains)


def _chain(destination: Destination) -> FilterChain:
    name = cluster_name(destination)
    return FilterChain(
        name=name,
        filter_chain_match=FilterChainMatch(
            prefix_ranges=[
                CidrRange(address_prefix=ip, prefix_len=UInt32Value(value=128 if ":" in ip else 32))
                for ip in destination.addresses
            ],
            destination_port=UInt32Value(value=destination.port),
        ),
        filters=[_proxy(name)],
    )


def _proxy(cluster: str) -> Filter:
    return network_filter(TCP_PROXY, tcp_proxy(cluster, stat_prefix="outbound"))
