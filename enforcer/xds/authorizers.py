"""The ways from a sidecar to the external authorizers of the mesh configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from enforcer.destinations import Destination
from enforcer.ext_authz import cluster_name
from enforcer.kube import Json
from enforcer.mesh import Exempt, Trust
from enforcer.policy import Action, Policy
from enforcer.providers import Provider
from enforcer.xds.listeners import CONNECT_SECONDS, marked
from enforcer.xds.outbound import client_socket_of
from enforcer.xds.pack import address, pack

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """A provider whose Service there is, and the packed cluster that leads to it."""

    provider: Provider
    cluster: AnyMessage


def build(
    provider: Provider, service: Json, destination: Destination | None, *, trust: Trust, exempt: Exempt
) -> Authorizer:
    """The way to a provider's Service: by its cluster IP, by mutual TLS where it is a `destination`.

    A Service without such a port, or without a cluster IP, is one that never answers.
    """
    spec = service.get("spec") or {}
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    served = any(int(port["port"]) == provider.port for port in spec.get("ports") or ())
    # The first family is the Service's own choice.
    addresses = [ip for ip in listed if ip and ip != "None"][:1] if served else []
    name = cluster_name(provider)
    cluster = Cluster(
        name=name,
        type=Cluster.STATIC,
        connect_timeout=Duration(seconds=CONNECT_SECONDS),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[
                LocalityLbEndpoints(
                    lb_endpoints=[
                        LbEndpoint(endpoint=Endpoint(address=address(ip, provider.port))) for ip in addresses
                    ]
                )
            ],
        ),
        upstream_bind_config=marked() if exempt is Exempt.MARK else None,
        transport_socket=None if destination is None else client_socket_of(destination, trust),
    )
    http2 = HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].Pack(
        HttpProtocolOptions(explicit_http_config=http2), deterministic=True
    )
    return Authorizer(provider=provider, cluster=pack(cluster))


def clusters(policies: Iterable[Policy], authorizers: Mapping[str, Authorizer]) -> list[AnyMessage]:
    """The clusters that these policies need, by name and each once. A provider of HTTP is never asked."""
    named = {policy.provider for policy in policies if policy.action is Action.CUSTOM}
    found = {
        cluster_name(authorizer.provider): authorizer.cluster
        for name, authorizer in authorizers.items()
        if name in named and authorizer.provider.grpc
    }
    return [cluster for _, cluster in sorted(found.items())]
