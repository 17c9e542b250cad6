"""What the oracle says of every connection of the table, given the documents as they stand on the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.foresight import MESH, service_account
from conformance.fuzz.cases import Row
from conformance.fuzz.pool import Pool
from conformance.oracle import Connection, Decision, Destination, Mesh, Source, decide

__all__ = ["foretell", "mesh_of"]


def mesh_of(pool: Pool) -> Mesh:
    profile = pool.rig.profile
    aliases = MESH.aliases if "trust-domain-alias" in profile.features else ()
    return replace(MESH, root_namespace=profile.root_namespace, aliases=aliases)


def foretell(pool: Pool, slot: str, documents: Sequence[Mapping[str, Any]], row: Row) -> Decision:
    """Raises Undecided where it depends on what is not known here."""
    rig, lane = pool.rig, row.lane(slot)
    source, target = rig.pods[lane.source], rig.pods[lane.workload]
    meshed = source.sidecar and target.sidecar and row.via == "service"
    host = f"{row.service}.{target.namespace}.svc.cluster.local"
    connection = Connection(
        source=Source(
            namespace=source.namespace,
            service_account=service_account(row.source),
            ip=source.address,
            meshed=meshed,
        ),
        destination=Destination(
            namespace=target.namespace,
            ip=target.address,
            port=row.workload_port,
            labels=target.labels,
            injected=target.sidecar,
        ),
        sni=f"outbound_.{row.port}_._.{host}" if meshed else "",
    )
    return decide([*pool.environment, *documents], connection, mesh_of(pool))
