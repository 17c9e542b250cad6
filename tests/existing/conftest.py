"""One embedded cluster with the bundled mesh, as a stranger's cluster, for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.kube import Kube
from conformance.profile import find_profile, load_profile
from conformance.stage import prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Its administrator's connection. No test may leave anything of its own on it."""

    kubeconfig: Path
    kube: Kube

    def namespaces(self) -> set[str]:
        found, _ = self.kube.list("v1", "Namespace")
        return {item["metadata"]["name"] for item in found if not item["metadata"].get("deletionTimestamp")}


@pytest.fixture(scope="session")
def stranger() -> Iterator[Stranger]:
    profile = load_profile(find_profile("bundled"))
    with start_embedded() as cluster:
        kube = Kube(cluster.kubeconfig)
        prepare(kube, profile, lambda _: None)
        yield Stranger(kubeconfig=cluster.kubeconfig, kube=kube)
        kube.close()
