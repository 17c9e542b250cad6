"""A mesh whose policies are served by an API of its own (ASM), apart from the workloads' cluster.

Istio's kinds and the labels of namespaces go to the mesh's API, everything else to the cluster's. Nothing
refers from one to the other: what is deleted is deleted on both.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.cluster.bounds import MANAGED_BY, RUN
from conformance.cluster.kube import Answer, Kube
from conformance.errors import SetupError

__all__ = ["TwoApis"]

ISTIO = re.compile(r"/apis/[a-z0-9.-]+\.istio\.io(/|$)")
NAMESPACES = "/api/v1/namespaces"
NAMESPACE = re.compile(r"/api/v1/namespaces/[^/]+")
OURS = (MANAGED_BY, RUN)
PATIENCE = 60.0  # seconds for labels to come from the mesh


class TwoApis(Kube):
    """The connection to the workloads' cluster, which hands on what is the mesh's."""

    def __init__(self, kubeconfig: Path, context: str | None, *, mesh: Kube, timeout: float = 30.0) -> None:
        super().__init__(kubeconfig, context, timeout=timeout)
        self._mesh = mesh

    @property
    def mesh(self) -> Kube:
        return self._mesh

    def close(self) -> None:
        super().close()
        self._mesh.close()

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str],
        content_type: str,
        timeout: float | tuple[float, float],
    ) -> Any:
        if ISTIO.match(path):
            return self._mesh._send(method, path, body, query, content_type, timeout)
        return super()._send(method, path, body, query, content_type, timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        if method == "POST" and path == NAMESPACES and isinstance(body, Mapping):
            return self._create_namespace(body)
        if method == "DELETE" and NAMESPACE.fullmatch(path) and body is None:
            self._mesh.request(method, path)
        return super().request(method, path, body=body, query=query, content_type=content_type)

    def _create_namespace(self, body: Mapping[str, Any]) -> Answer:
        """On both; its labels at the mesh's API only, from where they must come to the cluster's. Raises
        SetupError where they do not."""
        metadata = body["metadata"]
        labels = dict(metadata.get("labels") or {})
        bare = {name: value for name, value in labels.items() if name in OURS}
        here = super().request("POST", NAMESPACES, body={**body, "metadata": {**metadata, "labels": bare}})
        if not here.ok:
            return here
        there = self._mesh.request("POST", NAMESPACES, body=body)
        path = f"{NAMESPACES}/{metadata['name']}"
        if there.reason == "AlreadyExists":  # the mesh takes over the cluster's namespaces
            there = self._mesh.merge_patch(self._mesh.key(body), {"metadata": {"labels": labels}})
        if not there.ok:
            return there
        deadline = time.monotonic() + PATIENCE
        while True:
            arrived = (super().request("GET", path).body.get("metadata") or {}).get("labels") or {}
            missing = labels.items() - arrived.items()
            if not missing:
                return here
            if time.monotonic() >= deadline:
                said = ", ".join(f"{name}={value}" for name, value in sorted(missing))
                raise SetupError(
                    f"the label {said} of the namespace {metadata['name']} did not come from the mesh's API",
                    hint="is that mesh connected to this cluster, and does it synchronize namespace labels?",
                )
            time.sleep(0.1)  # one object: a bounded poll

    def data_plane_serves(self, api_version: str, kind: str) -> bool:
        plain = Kube(self.kubeconfig, self.context)
        try:
            return plain.serves(api_version, kind)
        finally:
            plain.close()
