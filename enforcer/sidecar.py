"""Becomes Envoy: builds its bootstrap configuration from the environment and replaces this process.

Standard library only, because every pod starts with it. The bootstrap holds no policy: listeners come from
the control plane, so until its first answer nothing is accepted, and the last answer stays when it goes
away.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enforcer import control_plane, ports
from enforcer.control_plane import TOKEN, XDS_CLUSTER, SidecarError, endpoints, socket_address
from enforcer.envoy_binary import find_envoy

Json = dict[str, Any]

DRAIN_SECONDS = 5
"""How long connections that a policy change does not concern live on; then Envoy cuts them."""
ADMIN_CLUSTER = "administration"
IPV6_ADDRESSES = Path("/proc/net/if_inet6")
TOKEN_DIRECTORY = Path("/var/run/secrets/authz-enforcer")
"""Where the pod's token for the control plane is mounted, as `token`; renewed there by the kubelet."""
RUN_DIRECTORY = Path("/var/run/authz")
"""A writable place that is gone with the pod. No secret is written there."""

REQUIRED = ("POD_NAMESPACE", "POD_NAME", "XDS_ADDRESS", "MESH_ROOT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What a bootstrap depends on. `xds` is host:port; `root` what its certificate must lead to (PEM);
    `mark` 0 sets no socket mark."""

    namespace: str
    pod: str
    xds: str
    root: str
    tokens: Path = TOKEN_DIRECTORY
    run: Path = RUN_DIRECTORY
    ip: str = ""
    mark: int = ports.MARK
    ipv6: bool = False


def read_environment(environment: Mapping[str, str], *, ipv6: bool) -> Sidecar:
    """The sidecar that the pod's environment describes. Raises SidecarError."""
    missing = [name for name in REQUIRED if not environment.get(name)]
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
        root=environment["MESH_ROOT"],
        tokens=Path(environment.get("TOKEN_DIRECTORY", TOKEN_DIRECTORY)),
        run=Path(environment.get("RUN_DIRECTORY", RUN_DIRECTORY)),
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
        "admin": {"address": socket_address("127.0.0.1", ports.ADMIN)},
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
            "clusters": [
                control_plane.cluster(
                    sidecar.xds, root=sidecar.root, tokens=sidecar.tokens, run=sidecar.run, mark=sidecar.mark
                ),
                _administration(),
            ],
            "listeners": [_readiness()],
        },
    }


def write_token_resource(sidecar: Sidecar) -> None:
    """Writes what tells Envoy where its token is: it reads such a reference from files only, and again when
    the token's directory changes. Raises SidecarError."""
    resource = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": TOKEN,
        "generic_secret": {"secret": {"filename": str(sidecar.tokens / TOKEN)}},
    }
    try:
        (sidecar.run / f"{TOKEN}.json").write_text(json.dumps({"resources": [resource]}))
    except OSError as error:
        raise SidecarError(f"{sidecar.run} must be writable: {error}") from error


def _administration() -> Json:
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": endpoints(ADMIN_CLUSTER, "127.0.0.1", ports.ADMIN),
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
        "address": socket_address("0.0.0.0", ports.READY),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


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
        # Envoy wakes this often for the access log, idle or not: at 10 ms, 4 ms of CPU a second.
        "--file-flush-interval-msec",
        "20",
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
    sidecar = read_environment(os.environ, ipv6=has_ipv6())
    bootstrap = build_bootstrap(sidecar)
    if given.print_bootstrap:
        print(json.dumps(bootstrap, indent=2))
        return 0
    write_token_resource(sidecar)
    argv = command(find_envoy(), bootstrap)
    return os.execv(argv[0], argv)  # noqa: S606 - becoming Envoy is the purpose; there is no shell
