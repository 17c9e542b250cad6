"""The configuration of one sidecar: a pure function of its policies, its modes and the mesh's destinations,
byte for byte the same for the same input.

Every difference in the bytes of a filter chain makes Envoy replace that chain and, after the drain time,
cut all of its connections. So maps are serialized in a fixed order, and the version is a digest of the
content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage

from enforcer.mesh import Exempt, Trust
from enforcer.peer_authentication import Modes
from enforcer.policy import Policy
from enforcer.xds import authorizers as authorizers_module
from enforcer.xds import inbound
from enforcer.xds.authorizers import Authorizer
from enforcer.xds.inbound import TO_WORKLOAD
from enforcer.xds.listeners import passthrough
from enforcer.xds.outbound import Outbound
from enforcer.xds.pack import digest, pack

CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
LISTENER_TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"
TYPES = (CLUSTER_TYPE, LISTENER_TYPE)
"""In the order of delivery: a listener must find its clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Resources and their version, by xDS type. Equal versions mean equal bytes."""

    resources: Mapping[str, tuple[AnyMessage, ...]]
    versions: Mapping[str, str]


def build(
    policies: Sequence[Policy],
    *,
    modes: Modes,
    outbound: Outbound,
    trust: Trust,
    exempt: Exempt,
    ipv6: bool,
    authorizers: Mapping[str, Authorizer],
) -> Snapshot:
    """The snapshot of a workload that these policies govern. `ipv6`: its network has IPv6 addresses.
    `authorizers`: the mesh's, by provider; only those that the policies name become part of it."""
    providers = {name: authorizer.provider for name, authorizer in authorizers.items()}
    listener = inbound.build(policies, modes, trust=trust, ipv6=ipv6, providers=providers)
    resources = {
        CLUSTER_TYPE: (
            pack(passthrough(TO_WORKLOAD, exempt)),
            *authorizers_module.clusters(policies, authorizers),
            *outbound.clusters,
        ),
        LISTENER_TYPE: (pack(listener), outbound.listener),
    }
    versions = {kind: digest(messages) for kind, messages in resources.items()}
    return Snapshot(resources=resources, versions=versions)
