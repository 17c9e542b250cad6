"""Istio's access log, switched on for our namespaces."""

from __future__ import annotations

from collections.abc import Callable

from conformance.cluster.kube import Kube
from conformance.topology import NAMESPACES, Names

__all__ = ["log_connections"]

API_VERSIONS = ("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1")
NAME = "conformance-access-log"


def log_connections(kube: Kube, names: Names, say: Callable[[str], None]) -> bool:
    """A Telemetry in each injected namespace of the worker, gone with the namespace; False where the cluster
    does not know the kind. Raises SetupError where the API refuses it."""
    version = next((name for name in API_VERSIONS if kube.serves(name, "Telemetry")), None)
    if version is None:
        say("--telemetry: the cluster has no Telemetry (telemetry.istio.io), so nothing is switched on")
        return False
    for namespace in NAMESPACES:
        if namespace == "legacy":
            continue
        document = {
            "apiVersion": version,
            "kind": "Telemetry",
            "metadata": {"name": NAME, "namespace": names.real(namespace)},
            "spec": {"accessLogging": [{"providers": [{"name": "envoy"}]}]},
        }
        key, answer = kube.apply(document)
        answer.or_raise(f"apply {key}")
    return True
