"""Asking an external authorizer about a TCP connection: Envoy's envoy.filters.network.ext_authz.

The filter asks about a connection only where the RBAC filter before it has left the name of a CUSTOM rule in
the connection's metadata. Names and prefixes are Istio's.
"""

from __future__ import annotations

from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.network.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from enforcer.providers import Provider

FILTER_NAME = "envoy.filters.network.ext_authz"
STAT_PREFIX = "tcp."
RULE_PREFIX = "istio-ext-authz-"
"""What the names of CUSTOM rules begin with in the metadata, followed by the provider's name and a dash."""


def cluster_name(provider: Provider) -> str:
    """Not `outbound|...`: that is the way of the application's own connections to the same Service."""
    return f"authorizer|{provider.port}||{provider.host}"


def ask(provider: Provider, *, metadata: str, key: str) -> Filter:
    """The filter that asks the provider where `key` of `metadata` names one of its rules, and closes what it
    denies. What it does not answer for (down, too slow, an error) is closed, too, unless it fails open."""
    timeout = Duration()
    timeout.FromNanoseconds(round(provider.timeout_seconds * 1e9))
    config = Any()
    config.Pack(
        ExtAuthz(
            stat_prefix=STAT_PREFIX,
            transport_api_version=ApiVersion.V3,
            failure_mode_allow=provider.fail_open,
            grpc_service=GrpcService(
                # The cluster's name would be no authority: it has characters that servers refuse.
                envoy_grpc=GrpcService.EnvoyGrpc(
                    cluster_name=cluster_name(provider), authority=provider.host
                ),
                timeout=timeout,
            ),
            filter_enabled_metadata=MetadataMatcher(
                filter=metadata,
                path=[MetadataMatcher.PathSegment(key=key)],
                value=ValueMatcher(string_match=StringMatcher(prefix=f"{RULE_PREFIX}{provider.name}-")),
            ),
        ),
        deterministic=True,
    )
    return Filter(name=FILTER_NAME, typed_config=config)
