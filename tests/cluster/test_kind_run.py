"""A whole run with `--cluster kind`: the stand-in's cluster is an embedded one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.cluster.embedded.cluster import EmbeddedCluster, start_embedded
from tests.cluster.conftest import StandIn

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 240.0


def start(standin: StandIn, reports: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "conformance", "run", "-q", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [*command, "--report-dir", str(reports), *arguments],
        cwd=ROOT,
        env={**os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(standin: StandIn, reports: Path, *arguments: str) -> tuple[int, str]:
    process = start(standin, reports, *arguments)
    out, _ = process.communicate(timeout=DEADLINE)
    return process.returncode, out


@pytest.fixture(scope="module")
def behind() -> Iterator[EmbeddedCluster]:
    cluster = start_embedded()
    try:
        yield cluster
    finally:
        cluster.stop()


def test_a_run_on_kind_from_image_to_report(
    standin: StandIn, behind: EmbeddedCluster, tmp_path: Path
) -> None:
    shutil.copy(behind.kubeconfig, standin.state / "kubeconfig")
    code, said = run(standin, tmp_path / "reports", "-k", "doc/02-allow-port-9000", "-n", "2")
    assert code == 0, said
    assert "cluster: kind (docker and kind answer)" in said
    assert standin.clusters() == []
    assert standin.marks() == []
    record = (tmp_path / "reports" / "latest" / "record.jsonl").read_text().splitlines()
    header = json.loads(record[0])
    assert header["cluster"]["kind"] == "kind"
    assert "image authz-conformance:4be14be14be1" in header["cluster"]["description"]
    assert not (tmp_path / "reports" / "latest" / "kind-logs").exists()


def test_an_image_of_others_runs_the_workloads_by_scripts(
    standin: StandIn, behind: EmbeddedCluster, tmp_path: Path
) -> None:
    shutil.copy(behind.kubeconfig, standin.state / "kubeconfig")
    # The only other name that the embedded cluster takes; the programs are those of the ConfigMap (PATH).
    image = "localhost/authz-conformance:v9"
    code, said = run(standin, tmp_path / "reports", "-k", "doc/02-allow-port-9000", "--image", image)
    assert code == 0, said
    assert f"image {image} named" in said


def test_a_run_that_cannot_start_keeps_the_logs_and_deletes_the_cluster(
    standin: StandIn, tmp_path: Path
) -> None:
    # Nobody answers at the address of this kubeconfig.
    (standin.state / "kubeconfig").write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )
    code, said = run(standin, tmp_path / "reports", "--cluster", "kind", "-k", "doc/02-allow-port-9000")
    assert code == 4, said
    assert "Traceback" not in said
    assert standin.clusters() == []
    assert standin.marks() == []
    assert list((tmp_path / "reports").glob("*/kind-logs/kind-version.txt"))


def test_ctrl_c_in_the_middle_leaves_nothing(standin: StandIn, tmp_path: Path) -> None:
    (standin.state / "hang").write_text("kind create")
    process = start(standin, tmp_path / "reports", "--cluster", "kind", "-k", "doc/02-allow-port-9000")
    deadline = time.monotonic() + DEADLINE
    while not (standin.state / "hanging").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert standin.clusters() == []
    assert standin.marks() == []
    assert any(call.startswith("kind delete") for call in standin.calls())
