"""The stage as the oracle sees it: workloads and paths of the topology, in its terms.

Everything that a real run would look up (names, addresses) stands for itself here, so that a scenario can
be worked through, and a policy explained, without a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from conformance import placeholders
from conformance.oracle import Authorizer, Connection, Destination, Mesh, Source
from conformance.topology import WORKLOADS, Names, Ref, Service, Workload, find_service

__all__ = [
    "ALIAS",
    "AUTHORIZERS",
    "LABELS",
    "MESH",
    "NAMES",
    "connect",
    "pod_address",
    "pod_address6",
    "resolve",
    "service_account",
]

NAMES = Names(run="r0", worker="", root="authz-system")
# Of the feature `trust-domain-alias`.
ALIAS = "alias.example"
# Of the feature `custom`: the mesh's providers, and the sample authorizer's rule (workloads/ext_authz.py).
AUTHORIZERS: Mapping[str, Authorizer] = {
    "conformance-grpc": Authorizer(denies=frozenset({9001})),
    "conformance-grpc-down": Authorizer(answers=False),
    "conformance-grpc-down-open": Authorizer(answers=False, fail_open=True),
    "conformance-grpc-silent": Authorizer(answers=False),
    "conformance-grpc-silent-open": Authorizer(answers=False, fail_open=True),
    "conformance-http": Authorizer(grpc=False),
}
MESH = Mesh(root_namespace=NAMES.root, aliases=(ALIAS,), authorizers=AUTHORIZERS)

# Of the pods, from manifests/workloads.
LABELS: Mapping[Ref, Mapping[str, str]] = {
    ref: {"app": ref.name, **({"version": "v1"} if ref.name == "tcp-echo" else {})} for ref in WORKLOADS
}
ACCOUNTS = {"sleep-dot": "sleep.b"}


def service_account(ref: Ref) -> str:
    return ACCOUNTS.get(ref.name, ref.name)


def pod_address(ref: Ref) -> str:
    return f"10.244.0.{10 + list(WORKLOADS).index(ref)}"


def pod_address6(ref: Ref) -> str:
    return f"fd00:10:244::{10 + list(WORKLOADS).index(ref):x}"


def service_address(ref: Ref) -> str:
    found = find_service(ref)
    if found is None:
        raise KeyError(str(ref))
    return f"10.96.0.{10 + sorted(WORKLOADS).index(found[1].ref)}"


def resolve(value: Any, names: Names = NAMES) -> Any:
    return placeholders.resolve(
        value,
        names=names,
        pod_address=pod_address,
        pod_address6=pod_address6,
        service_address=service_address,
    )


def connect(
    source: Ref,
    workload: Workload,
    port: int,
    *,
    service: Service | None,
    service_port: int = 0,
    labels: Mapping[str, str] | None = None,
    names: Names = NAMES,
    address: Callable[[Ref], str] = pod_address,
) -> Connection:
    """A client's connection to a workload's port; `service` is None where the pod's address is dialled, and
    then no sidecar speaks mutual TLS. `labels` and `address` are a real pod's where there is one."""
    meshed = WORKLOADS[source].injected and workload.injected and service is not None
    host = f"{service.name}.{names.real(workload.namespace)}.svc.cluster.local" if service else ""
    return Connection(
        source=Source(
            namespace=names.real(source.namespace),
            service_account=service_account(source),
            ip=address(source),
            meshed=meshed,
        ),
        destination=Destination(
            namespace=names.real(workload.namespace),
            ip=address(workload.ref),
            port=port,
            labels=LABELS[workload.ref] if labels is None else labels,
            injected=workload.injected,
        ),
        sni=f"outbound_.{service_port}_._.{host}" if meshed else "",
    )
