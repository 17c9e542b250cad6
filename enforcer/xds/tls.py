"""Mutual TLS between sidecars: what either end presents and demands.

Certificates, keys and the root travel apart from this, as secrets; here they are only named.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from enforcer.mesh import Trust
from enforcer.xds.pack import pack

ALPN = "authz-mesh"
"""Tells a sidecar's TLS from an application's own."""
IDENTITY, ROOT = "identity", "root"
"""The secrets that a sidecar may ask for: its own certificate and key, and what it must trust. No name of
another's exists, so none can be had by asking."""

SOCKET_NAME = "envoy.transport_sockets.tls"
SESSION_KEYS = 32
"""Sessions kept for resumption by each cluster; one resumption uses one up (TLS 1.3)."""


@cache
def server_socket(trust: Trust) -> TransportSocket:
    """Inbound: whoever has a certificate of the mesh. One message for all: to be copied, never changed."""
    prefixes = [StringMatcher(prefix=f"spiffe://{domain}/") for domain in trust.domains]
    context = DownstreamTlsContext(
        common_tls_context=_common(prefixes), require_client_certificate=BoolValue(value=True)
    )
    return TransportSocket(name=SOCKET_NAME, typed_config=pack(context))


def client_socket(uris: Iterable[str], *, sni: str) -> TransportSocket:
    """Outbound: to these identities and no others."""
    context = UpstreamTlsContext(
        common_tls_context=_common([StringMatcher(exact=uri) for uri in uris]),
        sni=sni,
        max_session_keys=UInt32Value(value=SESSION_KEYS),
    )
    return TransportSocket(name=SOCKET_NAME, typed_config=pack(context))


def _common(names: Iterable[StringMatcher]) -> CommonTlsContext:
    # A chain to the root alone would do for no peer: the root signs the control plane's certificate, too.
    validation = CertificateValidationContext(
        match_typed_subject_alt_names=[
            SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.URI, matcher=matcher) for matcher in names
        ]
    )
    return CommonTlsContext(
        tls_params=TlsParameters(
            tls_minimum_protocol_version=TlsParameters.TLSv1_3,
            tls_maximum_protocol_version=TlsParameters.TLSv1_3,
        ),
        alpn_protocols=[ALPN],
        tls_certificate_sds_secret_configs=[_secret(IDENTITY)],
        combined_validation_context=CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=validation, validation_context_sds_secret_config=_secret(ROOT)
        ),
    )


def _secret(name: str) -> SdsSecretConfig:
    source = ConfigSource(
        ads=AggregatedConfigSource(),
        resource_api_version=ApiVersion.V3,
        # 0: wait for it, however long. With a limit a listener would open and fail every handshake.
        initial_fetch_timeout=Duration(),
    )
    return SdsSecretConfig(name=name, sds_config=source)
