"""The Job of manifests/job: its pod, as it stands, under the shipped role and no other.

The embedded cluster has neither Jobs nor volume claims: the pod is made of the Job's template, and the
report goes to an empty directory.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.ownership import find_owned
from tests.existing.conftest import Stranger
from tests.existing.test_roles import apply, remove
from tests.processes import wait_until

JOB = Path(__file__).parent.parent.parent / "manifests" / "job" / "job.yaml"
NAMESPACE = "authz-conformance"
SECONDS = 240.0


def documents(**settings: str) -> list[dict[str, Any]]:
    """The pod and what it mounts, with other settings."""
    found = []
    for body in yaml.safe_load_all(JOB.read_text()):
        body["metadata"]["namespace"] = NAMESPACE
        if body["metadata"]["name"] == "authz-conformance" and body["kind"] == "ConfigMap":
            assert settings.keys() <= body["data"].keys()
            body["data"] |= settings
        if body["kind"] == "Job":
            template = body["spec"]["template"]
            for volume in template["spec"]["volumes"]:
                if volume.pop("persistentVolumeClaim", None):
                    volume["emptyDir"] = {}
            metadata = {**template["metadata"], "name": "job", "namespace": NAMESPACE}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        if body["kind"] in ("ConfigMap", "Pod"):
            found.append(body)
    return found


def test_the_jobs_pod_runs_under_the_shipped_role(stranger: Stranger) -> None:
    made = apply(stranger, "account.yaml")
    made += apply(stranger, "cluster/role.yaml") + apply(stranger, "bundled.yaml")
    try:
        for body in documents(PROFILE="bundled", ARGS="-k doc/02", PRINT_REPORT="yes"):
            stranger.kube.create(body).or_raise(body["kind"])
            made.append(body)
        key = stranger.kube.key(made[-1])

        def ended() -> bool:
            status = stranger.kube.get(key).or_raise("the pod").body.get("status") or {}
            return status.get("phase") in ("Succeeded", "Failed")

        wait_until(ended, seconds=SECONDS, what="the Job's pod has ended")
        kubectl = str(Path(sys.executable).parent / "kubectl")
        command = [kubectl, f"--kubeconfig={stranger.kubeconfig}", "logs", "-n", NAMESPACE, "job"]
        log = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
        assert "PASSED: the selected cases hold" in log, log
        assert stranger.kube.get(key).body["status"]["phase"] == "Succeeded"
        archive = base64.b64decode(log.rpartition("REPORT\n")[2])
        with tarfile.open(fileobj=io.BytesIO(archive)) as report:
            file = report.extractfile("./record.jsonl")
            assert file is not None
            header, case, _ = map(json.loads, file)
        assert (case["id"], case["status"]) == ("doc/02-allow-port-9000", "passed")
        assert all(check["ok"] for check in header["preflight"])
        assert find_owned(stranger.kube) == []
    finally:
        remove(stranger, made)
