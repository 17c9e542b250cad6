"""How a sidecar finds its control plane, knows it, and says who it is itself. Standard library only."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from enforcer.errors import EnforcerError

Json = dict[str, Any]

SOL_SOCKET, SO_MARK = 1, 36
XDS_CLUSTER = "control-plane"
TOKEN = "token"  # noqa: S105 - the name of a file and of an Envoy secret


class SidecarError(EnforcerError):
    """The environment does not say what the sidecar must know."""


def cluster(address: str, *, root: str, tokens: Path, run: Path, mark: int) -> Json:
    """Envoy's cluster of the control plane at host:port. Raises SidecarError."""
    host, port = _split(address)
    http2 = {"connection_keepalive": {"interval": "5s", "timeout": "5s"}}
    made: Json = {
        "name": XDS_CLUSTER,
        "connect_timeout": "1s",
        "load_assignment": endpoints(XDS_CLUSTER, host, port),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                # Finds a control plane that vanished without a word.
                "explicit_http_config": {"http2_protocol_options": http2},
                "http_filters": [_token_filter(tokens, run), _codec_filter()],
            }
        },
        "transport_socket": _to_control_plane(root, host),
    }
    if _is_ip(host):
        made["type"] = "STATIC"
    else:
        made["type"] = "STRICT_DNS"
        made["dns_lookup_family"] = "V4_PREFERRED"
        made["dns_refresh_rate"] = "5s"
        made["dns_failure_refresh_rate"] = {"base_interval": "0.1s", "max_interval": "1s"}
        # The C library's resolver reads the pod's hosts file and search list as every application does.
        made["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.getaddrinfo",
            "typed_config": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
            },
        }
    if mark:
        # Envoy's own way to the control plane must not be redirected to Envoy.
        option = {"level": SOL_SOCKET, "name": SO_MARK, "int_value": mark, "state": "STATE_PREBIND"}
        made["upstream_bind_config"] = {"socket_options": [option]}
    return made


def _to_control_plane(root: str, host: str) -> Json:
    """TLS to the holder of this very name: every workload's certificate leads to the same root."""
    name = {"san_type": "IP_ADDRESS" if _is_ip(host) else "DNS", "matcher": {"exact": host}}
    tls: Json = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"inline_string": root},
                "match_typed_subject_alt_names": [name],
            },
        },
    }
    if not _is_ip(host):
        tls["sni"] = host
    return {"name": "envoy.transport_sockets.tls", "typed_config": tls}


def _token_filter(tokens: Path, run: Path) -> Json:
    """Says who this is, in each new stream's headers, with the token as it is then."""
    source = {
        "path_config_source": {
            "path": str(run / f"{TOKEN}.json"),
            "watched_directory": {"path": str(tokens)},
        },
        "resource_api_version": "V3",
    }
    generic = {
        "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
        "credential": {"name": TOKEN, "sds_config": source},
        "header": "authorization",
    }
    return {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
        },
    }


def _codec_filter() -> Json:
    kind = "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
    return {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": kind}}


def socket_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def endpoints(name: str, host: str, port: int) -> Json:
    endpoint = {"endpoint": {"address": socket_address(host, port)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def host_of(address: str) -> str:
    """The host of a control plane's address, which its certificate must name. Raises SidecarError."""
    return _split(address)[0]


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) <= 0xFFFF:
        raise SidecarError(f"XDS_ADDRESS must be host:port, not {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
