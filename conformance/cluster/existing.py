"""A cluster that is there already, and what already stands on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.cluster.kube import Kube
from conformance.cluster.kubeconfig import describe_context
from conformance.errors import InputError

__all__ = ["ExistingCluster", "connect", "from_environment", "read_environment"]

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


def from_environment() -> Path:
    """$KUBECONFIG, else the usual file. Raises InputError where it names several files."""
    named = os.environ.get("KUBECONFIG", "")
    if len(names := [name for name in named.split(os.pathsep) if name]) > 1:
        raise InputError(
            f"KUBECONFIG names {len(names)} files", hint="name the one to use: --kubeconfig FILE"
        )
    return Path(names[0]) if names else Path(os.environ.get("HOME") or "/", ".kube", "config")


def connect(kubeconfig: Path | None, context: str | None) -> ExistingCluster:
    """The kubeconfig given, else $KUBECONFIG, else the usual file. Raises InputError where there is none."""
    chosen = kubeconfig or from_environment()
    hint = "--kubeconfig FILE, or set KUBECONFIG"
    if chosen.is_dir():
        raise InputError(f"the kubeconfig {chosen} is a directory", hint=hint)
    if not chosen.is_file():
        raise InputError(f"there is no kubeconfig {chosen}", hint=hint)
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
