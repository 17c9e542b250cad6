"""Becomes Envoy: builds its bootstrap configuration from the environment and replaces this process.

Standard library only, because every pod starts with it. The bootstrap holds no policy: listeners come from
the control plane, so until its first answer nothing is accepted, and the last answer stays when it goes
away.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enforcer import ports
from enforcer.envoy_binary import find_envoy
from enforcer.errors import EnforcerError

Json = dict[str, Any]

SOL_SOCKET, SO_MARK = 1, 36
DRAIN_SECONDS = 5
"""How long connections that a policy change does not concern live on; then Envoy cuts them."""
XDS_CLUSTER = "control-plane"
ADMIN_CLUSTER = "administration"
IPV6_ADDRESSES = Path("/proc/net/if_inet6")


class SidecarError(EnforcerError):
    """The environment does not say what the sidecar must know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What a bootstrap depends on. `xds` is host:port; `mark` 0 sets no socket mark."""

    namespace: str
    pod: str
    xds: str
    ip: str = ""
    mark: int = ports.MARK
    ipv6: bool = False


def read_environment(environment: Mapping[str, str], *, ipv6: bool) -> Sidecar:
    """The sidecar that the pod's environment describes. Raises SidecarError."""
    missing = [name for name in ("POD_NAMESPACE", "POD_NAME", "XDS_ADDRESS") if not environment.get(name)]
    if missing:
        raise SidecarError(f"{', '.join(missing)} must be set in the environment")
    mark = environment.get("PROXY_MARK", str(ports.MARK))
    if not mark.isascii() or not mark.isdigit():
        raise SidecarError(f"PROXY_MARK must be a number, not {mark!r}")
    return Sidecar(
        namespace=environment["POD_NAMESPACE"],
        pod=environment["POD_NAME"],
        ip=environment.get("POD_IP", ""),
        xds=environment["XDS_ADDRESS"],
        mark=int(mark),
        ipv6=ipv6,
    )


def has_ipv6(addresses: Path = IPV6_ADDRESSES) -> bool:
    """Whether this network namespace has an IPv6 address (link-local counts)."""
    try:
        return bool(addresses.read_text().strip())
    except OSError:
        return False


def build_bootstrap(sidecar: Sidecar) -> Json:
    """Envoy's bootstrap, in the JSON form of envoy.config.bootstrap.v3.Bootstrap."""
    from_control_plane = {
        "resource_api_version": "V3",
        "ads": {},
        # 0: wait for the control plane, however long. With a limit Envoy would go live without listeners.
        "initial_fetch_timeout": "0s",
    }
    return {
        "node": {
            "id": f"{sidecar.namespace}/{sidecar.pod}",
            "cluster": sidecar.namespace,
            "metadata": {"ipv6": sidecar.ipv6, "pod_ip": sidecar.ip},
        },
        "admin": {"address": _address("127.0.0.1", ports.ADMIN)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": XDS_CLUSTER,
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.02s", "max_interval": "0.2s"}
                            },
                        }
                    }
                ],
            },
            "lds_config": from_control_plane,
            "cds_config": from_control_plane,
        },
        "static_resources": {
            "clusters": [_control_plane(sidecar), _administration()],
            "listeners": [_readiness()],
        },
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _endpoints(name: str, host: str, port: int) -> Json:
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _control_plane(sidecar: Sidecar) -> Json:
    host, port = _split(sidecar.xds)
    cluster: Json = {
        "name": XDS_CLUSTER,
        "connect_timeout": "1s",
        "load_assignment": _endpoints(XDS_CLUSTER, host, port),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    # Finds a control plane that vanished without a word.
                    "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "5s"}}
                },
            }
        },
    }
    if _is_ip(host):
        cluster["type"] = "STATIC"
    else:
        cluster["type"] = "STRICT_DNS"
        cluster["dns_lookup_family"] = "V4_PREFERRED"
        cluster["dns_refresh_rate"] = "5s"
        cluster["dns_failure_refresh_rate"] = {"base_interval": "0.1s", "max_interval": "1s"}
        # The C library's resolver reads the pod's hosts file and search list as every application does.
        cluster["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.getaddrinfo",
            "typed_config": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
            },
        }
    if sidecar.mark:
        # Envoy's own way to the control plane must not be redirected to Envoy.
        mark = {"level": SOL_SOCKET, "name": SO_MARK, "int_value": sidecar.mark, "state": "STATE_PREBIND"}
        cluster["upstream_bind_config"] = {"socket_options": [mark]}
    return cluster


def _administration() -> Json:
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints(ADMIN_CLUSTER, "127.0.0.1", ports.ADMIN),
    }


def _readiness() -> Json:
    """A static listener opens only once every initial answer has arrived: open means configured."""
    route = {
        "match": {"path": "/healthz/ready"},
        "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/ready"},
    }
    manager = {
        "@type": "type.googleapis.com/"
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "readiness",
        "route_config": {"virtual_hosts": [{"name": "readiness", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    return {
        "name": "readiness",
        "address": _address("0.0.0.0", ports.READY),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


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


def command(envoy: Path, bootstrap: Json) -> list[str]:
    """Envoy's command line. The bootstrap travels on it: no file, so a read-only root is enough."""
    return [
        str(envoy),
        "--config-yaml",
        json.dumps(bootstrap, separators=(",", ":")),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--drain-time-s",
        str(DRAIN_SECONDS),
        "--file-flush-interval-msec",
        "10",
        "--log-level",
        "warning",
        # While the control plane is away Envoy tries five times a second, and would log each of them.
        "--component-log-level",
        "config:error",
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="enforcer sidecar", description="Becomes this pod's Envoy.")
    parser.add_argument("--print-bootstrap", action="store_true", help="print the configuration and exit")
    given = parser.parse_args(arguments)
    bootstrap = build_bootstrap(read_environment(os.environ, ipv6=has_ipv6()))
    if given.print_bootstrap:
        print(json.dumps(bootstrap, indent=2))
        return 0
    argv = command(find_envoy(), bootstrap)
    return os.execv(argv[0], argv)  # noqa: S606 - becoming Envoy is the purpose; there is no shell
