"""Cases run with no more than what manifests/rbac/ grants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.cluster.ownership import find_owned
from tests.existing.conftest import Stranger
from tests.existing.runs import record, suite

RBAC = Path(__file__).parent.parent.parent / "manifests" / "rbac"
CASES = "doc/02 or doc/13 or scope/02-whole-mesh or src/10-when-keys or test_old_connection"


def apply(stranger: Stranger, file: str, namespace: str = "") -> list[dict[str, Any]]:
    documents = [body for body in yaml.safe_load_all((RBAC / file).read_text()) if body]
    for body in documents:
        stranger.kube.apply(body, namespace=namespace)[1].or_raise(file)
    return [{**body, "metadata": {"namespace": namespace, **body["metadata"]}} for body in documents]


def remove(stranger: Stranger, documents: list[dict[str, Any]]) -> None:
    for body in documents:
        stranger.kube.delete(stranger.kube.key(body))


def kubeconfig(stranger: Stranger, file: Path, token: str = "") -> Path:
    """Of the service account, with a token of its own; or with any."""
    path = "/api/v1/namespaces/authz-conformance/serviceaccounts/authz-conformance/token"
    if not token:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = stranger.kube.request("POST", path, body=request).or_raise("token").body["status"]["token"]
    content = yaml.safe_load(stranger.kubeconfig.read_text())
    for user in content["users"]:
        user["user"] = {"token": token}
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def account(stranger: Stranger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = apply(stranger, "account.yaml")
    yield kubeconfig(stranger, tmp_path_factory.mktemp("account") / "kubeconfig")
    remove(stranger, made)


def test_a_run_under_the_cluster_role(stranger: Stranger, account: Path, tmp_path: Path) -> None:
    made = apply(stranger, "cluster/role.yaml") + apply(stranger, "bundled.yaml")
    try:
        code, output = suite(account, tmp_path, "-k", CASES).finish()
    finally:
        remove(stranger, made)
    header, *cases, _ = record(tmp_path)
    assert code == 7, output  # partial: what is mesh-wide was skipped
    assert {line["status"] for line in cases} == {"passed", "skipped"}
    assert all(check["ok"] for check in header["preflight"])
    assert find_owned(stranger.kube) == []


def test_a_run_that_touches_the_whole_mesh_under_its_roles(
    stranger: Stranger, account: Path, tmp_path: Path
) -> None:
    """Also what stops the control plane and what needs the authorizer beside it."""
    made = apply(stranger, "cluster/role.yaml") + apply(stranger, "bundled.yaml")
    try:
        wide = "--allow-mesh-wide"
        code, output = suite(account, tmp_path, wide, "-k", "doc/02").finish()
        assert code == 4, output
        (told,) = [line for line in output.splitlines() if "preflight: permissions" in line]
        assert "patch deployments.apps in authz-system (" in told
        assert "manifests/rbac/mesh-wide.yaml" in told
        made += apply(stranger, "mesh-wide.yaml", "authz-system")
        made += apply(stranger, "bundled-mesh-wide.yaml")
        cases = "scope/02-whole-mesh or test_control_plane_away or order/10-authorizer-first"
        code, output = suite(account, tmp_path, wide, "-k", cases).finish()
    finally:
        remove(stranger, made)
    assert code == 0, output
    assert {line["status"] for line in record(tmp_path)[1:-1]} == {"passed"}
    assert find_owned(stranger.kube) == []


def test_the_walkthrough_is_typed_under_its_role(stranger: Stranger, account: Path, tmp_path: Path) -> None:
    before = stranger.namespaces()
    made = apply(stranger, "cluster/role.yaml") + apply(stranger, "bundled.yaml")
    try:
        made += apply(stranger, "walkthrough.yaml")
        code, output = suite(account, tmp_path, "-k", "test_walkthrough").finish()
    finally:
        remove(stranger, made)
    assert code == 0, output
    assert "test_walkthrough PASSED" in output
    assert stranger.namespaces() == before


def test_a_run_under_the_namespaced_role(stranger: Stranger, account: Path, tmp_path: Path) -> None:
    lent = {"foo": "own-foo", "bar": "own-bar", "legacy": "own-legacy"}
    made = apply(stranger, "bundled.yaml") + apply(stranger, "namespaced/root.yaml", "authz-system")
    for logical, real in lent.items():
        labels = {} if logical == "legacy" else {"istio-injection": "enabled"}
        metadata = {"name": real, "labels": labels}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        stranger.kube.create(namespace).or_raise(real)
        made.append(namespace)
        apply(stranger, "namespaced/role.yaml", real)
    try:
        given = "--namespaces=" + ",".join(f"{name}={real}" for name, real in lent.items())
        code, output = suite(account, tmp_path, given, "-k", CASES).finish()
        assert code == 7, output
        assert {line["status"] for line in record(tmp_path)[1:-1]} == {"passed", "skipped"}
        assert find_owned(stranger.kube) == []
    finally:
        remove(stranger, made)


def test_without_a_role_everything_that_is_missing_is_told_at_once(
    stranger: Stranger, account: Path, tmp_path: Path
) -> None:
    before = stranger.namespaces()
    code, output = suite(account, tmp_path, "-k", "doc/02").finish()
    assert code == 4, output
    (told,) = [line for line in output.splitlines() if "preflight: permissions" in line]
    assert "get,create pods/exec" in told
    assert "manifests/rbac/cluster" in told
    assert stranger.namespaces() == before
