"""What a mesh with an API of its own does: its policies and namespace labels come to the workloads' cluster.

Small and slow on purpose (it lists again and again): only that they come, and that deletions do, matters.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from conformance.cluster.kube import Kube
from conformance.errors import SetupError

KINDS = ("AuthorizationPolicy", "PeerAuthentication")
API = "security.istio.io/v1"
PAUSE = 0.1  # seconds


@contextmanager
def syncing(mesh: Kube, cluster: Kube) -> Iterator[None]:
    ended = threading.Event()
    ours: set[tuple[str, str, str]] = set()

    def go() -> None:
        while not ended.wait(PAUSE):
            with suppress(SetupError):  # a namespace that is gone by now
                _sync(mesh, cluster, ours)

    thread = threading.Thread(target=go, name="syncer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=60)


def _sync(mesh: Kube, cluster: Kube, ours: set[tuple[str, str, str]]) -> None:
    for namespace in mesh.list("v1", "Namespace")[0]:
        metadata = namespace["metadata"]
        key = cluster.key({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": metadata["name"]}})
        there = cluster.get(key)
        labels = metadata.get("labels") or {}
        if there.ok and labels.items() - (there.body["metadata"].get("labels") or {}).items():
            cluster.merge_patch(key, {"metadata": {"labels": labels}})
    for kind in KINDS:
        found = {_name(kind, item): item for item in mesh.list(API, kind)[0]}
        for name, item in found.items():
            metadata = {key: item["metadata"].get(key) for key in ("name", "namespace", "annotations")}
            document = {"apiVersion": API, "kind": kind, "metadata": metadata}
            there = cluster.get(cluster.key(document))
            if not there.ok or there.body.get("spec") != item.get("spec"):
                cluster.apply({**document, "spec": item.get("spec")})
                ours.add(name)
        for name in [name for name in ours if name[0] == kind and name not in found]:
            metadata = {"namespace": name[1], "name": name[2]}
            cluster.delete(cluster.key({"apiVersion": API, "kind": kind, "metadata": metadata}))
            ours.discard(name)


def _name(kind: str, item: dict[str, Any]) -> tuple[str, str, str]:
    return kind, item["metadata"]["namespace"], item["metadata"]["name"]
