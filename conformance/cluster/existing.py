"""A cluster that is there already, and what already stands on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.cluster.kube import Kube
from conformance.cluster.kubeconfig import describe_context
from conformance.errors import InputError

__all__ = ["ExistingCluster", "connect", "read_environment"]

# Kinds that have a say in what connections do; (apiVersion, kind).
TELLING = (
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("networking.istio.io/v1", "Sidecar"),
    ("telemetry.istio.io/v1", "Telemetry"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingCluster:
    """Not ours: `stop` leaves it as it is."""

    kubeconfig: Path
    description: str

    def stop(self) -> None:
        return


def connect(kubeconfig: Path | None, context: str | None) -> ExistingCluster:
    """The kubeconfig given, else $KUBECONFIG, else the usual file. Raises InputError where there is none."""
    chosen = kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not chosen.is_file():
        raise InputError(f"there is no kubeconfig {chosen}", hint="--kubeconfig FILE, or set KUBECONFIG")
    return ExistingCluster(kubeconfig=chosen, description=describe_context(chosen, context))


def read_environment(kube: Kube, namespaces: list[str]) -> list[dict[str, Any]]:
    """Objects of the telling kinds in those namespaces (the mesh's root, and ours), for the record."""
    found: list[dict[str, Any]] = []
    for api_version, kind in TELLING:
        if not kube.serves(api_version, kind):
            continue
        for namespace in namespaces:
            items, _ = kube.list(api_version, kind, namespace=namespace)
            found += [
                {
                    "kind": kind,
                    "namespace": namespace,
                    "name": item["metadata"]["name"],
                    "spec": item.get("spec") or {},
                }
                for item in items
            ]
    return found
