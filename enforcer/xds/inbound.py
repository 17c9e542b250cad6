"""The way in: for each port mutual TLS, plaintext or both, and the policies before the application.

STRICT      mutual TLS; anything else is closed, and says so in the access log
PERMISSIVE  both; an application's own TLS counts as plaintext
DISABLE     plaintext; TLS, the mesh's included, is the application's to understand
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

from envoy.config.core.v3.base_pb2 import INBOUND
from envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import ON_DOWNSTREAM_TLS_HANDSHAKE
from envoy.type.v3.range_pb2 import Int32Range
from google.protobuf.wrappers_pb2 import UInt32Value

from enforcer import ports, rbac
from enforcer.mesh import Trust
from enforcer.peer_authentication import Mode, Modes
from enforcer.policy import Policy
from enforcer.providers import Provider
from enforcer.xds import access_log
from enforcer.xds.listeners import redirected, tcp_proxy
from enforcer.xds.pack import network_filter, pack
from enforcer.xds.tls import ALPN, server_socket

TO_WORKLOAD = "inbound-original-destination"
TCP_PROXY = "envoy.filters.network.tcp_proxy"
EARLY_BYTES = 65536
"""What a client may send while the application is being dialled; then it must wait."""
MUTUAL, TLS, PLAIN = "mutual-tls", "tls", "plaintext"


def build(
    policies: Sequence[Policy],
    modes: Modes,
    *,
    trust: Trust,
    ipv6: bool,
    providers: Mapping[str, Provider],
) -> Listener:
    """The inbound listener of a workload. `providers`: those of CUSTOM policies that can be found."""
    filters = rbac.network_filters(policies, trust=trust, providers=providers)
    chains = [
        chain
        for port, mode in ((None, modes.default), *sorted(modes.ports.items()))
        for chain in _chains(mode, port, filters, trust)
    ]
    listener = redirected(
        "inbound", ports.INBOUND, INBOUND, chains, ipv6=ipv6, filters=list(_inspectors(modes))
    )
    listener.access_log.append(access_log.unmatched())
    return listener


def _chains(mode: Mode, port: int | None, filters: Sequence[Filter], trust: Trust) -> Iterator[FilterChain]:
    """The chains of one port; None: of all that have none of their own.

    Envoy looks no further than the most specific match: a port with chains has only those, and a connection
    with TLS that no chain for TLS takes is taken by none that says nothing about it, hence the third.
    """

    def chain(name: str, *more: Filter, **match: object) -> FilterChain:
        return FilterChain(
            name=name if port is None else f"{name}-{port}",
            filter_chain_match=FilterChainMatch(
                destination_port=None if port is None else UInt32Value(value=port), **match
            ),
            filters=[*filters, *more],
        )

    if mode is not Mode.DISABLE:
        proxy = tcp_proxy(TO_WORKLOAD, stat_prefix="inbound")
        # The application hears of no client that has not shown its certificate.
        proxy.upstream_connect_mode = ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = EARLY_BYTES
        proxy.access_log.append(access_log.inbound())
        mutual = chain(
            MUTUAL,
            network_filter(TCP_PROXY, proxy),
            transport_protocol="tls",
            application_protocols=[ALPN],
        )
        mutual.transport_socket.CopyFrom(server_socket(trust))
        yield mutual
    if mode is not Mode.STRICT:
        proxy = tcp_proxy(TO_WORKLOAD, stat_prefix="inbound")
        proxy.access_log.append(access_log.inbound())
        plain = network_filter(TCP_PROXY, proxy)
        yield chain(PLAIN, plain)
        if mode is Mode.PERMISSIVE:
            yield chain(TLS, plain, transport_protocol="tls")


def _inspectors(modes: Modes) -> Iterator[ListenerFilter]:
    """What tells TLS from plaintext by a client's first bytes; not where only plaintext is taken."""
    inspected = {port for port, mode in modes.ports.items() if mode is not Mode.DISABLE}
    plain = set(modes.ports) - inspected
    if modes.default is Mode.DISABLE and not inspected:
        return
    name, config = "envoy.filters.listener.tls_inspector", pack(TlsInspector())
    if modes.default is Mode.DISABLE:
        disabled = ListenerFilterChainMatchPredicate(not_match=_any_port(inspected))
    elif plain:
        disabled = _any_port(plain)
    else:
        yield ListenerFilter(name=name, typed_config=config)
        return
    yield ListenerFilter(name=name, typed_config=config, filter_disabled=disabled)


def _any_port(numbers: set[int]) -> ListenerFilterChainMatchPredicate:
    single = [
        ListenerFilterChainMatchPredicate(destination_port_range=Int32Range(start=port, end=port + 1))
        for port in sorted(numbers)
    ]
    # A set of alternatives must have two at least.
    return reduce(
        lambda left, right: ListenerFilterChainMatchPredicate(
            or_match=ListenerFilterChainMatchPredicate.MatchSet(rules=[left, right])
        ),
        single,
    )
