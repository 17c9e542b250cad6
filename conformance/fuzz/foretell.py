"""What the oracle says of every connection of the table, given the documents as they stand on the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.foresight import MESH, connect
from conformance.fuzz.cases import TARGET, Row
from conformance.fuzz.pool import Pool
from conformance.oracle import Decision, Mesh, decide
from conformance.topology import SERVICES, WORKLOADS

__all__ = ["foretell", "mesh_of"]


def mesh_of(pool: Pool) -> Mesh:
    profile = pool.rig.profile
    aliases = MESH.aliases if "trust-domain-alias" in profile.features else ()
    return replace(MESH, root_namespace=profile.root_namespace, aliases=aliases)


def foretell(pool: Pool, slot: str, documents: Sequence[Mapping[str, Any]], row: Row) -> Decision:
    """Raises Undecided where it depends on what is not known here."""
    connection = connect(
        row.source,
        WORKLOADS[TARGET],
        row.workload_port,
        service=SERVICES[row.service] if row.via == "service" else None,
        service_port=row.port,
        labels=pool.pod(TARGET, slot).labels,
        names=pool.names(slot),
        address=lambda ref: pool.pod(ref, slot).address,
    )
    return decide([*pool.environment, *documents], connection, mesh_of(pool))
