"""An injected pod against the schemas of Kubernetes: what a real API server would say to the patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from enforcer.inject import inject
from enforcer.mesh import Exempt, MeshOptions

kubernetes_validate = pytest.importorskip("kubernetes_validate")
WORKLOAD = Path(__file__).parent.parent.parent / "manifests" / "workloads" / "tcp-echo.yaml"


def injected(exempt: Exempt) -> dict[str, Any]:
    documents = yaml.safe_load_all(WORKLOAD.read_text())
    template = next(item["spec"]["template"] for item in documents if item["kind"] == "Deployment")
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", **template}
    for step in inject(pod, MeshOptions(exempt=exempt), root="PEM").patch:
        assert step["op"] == "add"
        *path, last = step["path"].strip("/").split("/")
        place: Any = pod
        for part in path:
            place = place[part]
        if last == "-":
            place.append(step["value"])
        else:
            place[last] = step["value"]
    return pod


@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
@pytest.mark.parametrize("exempt", list(Exempt))
def test_an_injected_pod_is_valid(version: str, exempt: Exempt) -> None:
    pod = injected(exempt)
    assert [item["name"] for item in pod["spec"]["containers"]] == ["tcp-echo", "istio-proxy"]
    kubernetes_validate.validate(pod, version, strict=True)
