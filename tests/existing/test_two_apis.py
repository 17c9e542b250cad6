"""Policies at one API, workloads at another, a syncer between them: whole cases by Istio's barrier.

No Istio runs here. The sidecars are those of the bundled mesh, and `pilot-agent` is a stand-in that asks the
same administration of the same Envoy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.campaign import Campaign
from conformance.campaign_options import Options, new_run_id
from conformance.campaign_owner import Owner
from conformance.cluster import exec as cluster_exec
from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.install import MANIFESTS, read_manifests
from conformance.cluster.kube import Kube
from conformance.cluster.ownership import find_owned
from conformance.errors import InputError, SetupError
from conformance.profile import PROFILES
from tests.existing.conftest import Stranger
from tests.existing.syncer import syncing
from tests.existing.test_ownership import nothing_is_left
from tests.processes import wait_until

CASES = (
    "doc/02-allow-port-9000",
    "doc/13-delete-restores",
    "scope/04-changed-labels",
    # The syncer brings policies first: the policy of the barrier says nothing of these.
    "plain/04-selector",
)
AGENT = (
    "import sys, urllib.request as r; "
    "sys.stdout.write(r.urlopen('http://127.0.0.1:15000/' + sys.argv[1]).read().decode())"
)


@pytest.fixture
def pilot_agent(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The bundled sidecar has no such program; the commands that were asked for."""
    asked: list[Sequence[str]] = []
    real = cluster_exec.open_exec

    def stand_in(kube: Kube, *, command: Sequence[str], **rest: Any) -> Any:
        if command[0] == "pilot-agent":
            asked.append(command)
            assert command[1:3] == ("request", "GET")
            command = ("python3", "-c", AGENT, command[3])
        return real(kube, command=command, **rest)

    monkeypatch.setattr(cluster_exec, "open_exec", stand_in)
    return asked


@pytest.fixture
def profile(tmp_path: Path) -> str:
    text = (PROFILES / "asm.yaml").read_text()
    file = tmp_path / "asm.yaml"
    file.write_text(text.replace("root_namespace: istio-system", "root_namespace: authz-system"))
    return str(file)


@pytest.fixture
def mesh() -> Iterator[Stranger]:
    """The mesh's own API: its kinds, and no workload."""
    with start_embedded() as cluster:
        kube = Kube(cluster.kubeconfig)
        for crd in read_manifests(sorted((MANIFESTS / "crds").glob("*.yaml"))):
            kube.apply(crd)[1].or_raise("apply a CRD")
        kube.forget_kinds()
        wait_until(
            lambda: kube.serves("security.istio.io/v1", "AuthorizationPolicy"), seconds=60, what="the kinds"
        )
        yield Stranger(kubeconfig=cluster.kubeconfig, kube=kube)
        kube.close()


def test_policies_at_one_api_hold_for_workloads_at_another(
    stranger: Stranger,
    mesh: Stranger,
    pilot_agent: list[Sequence[str]],
    profile: str,
    tmp_path: Path,
) -> None:
    options = Options(
        cluster="existing",
        kubeconfig=stranger.kubeconfig,
        mesh_kubeconfig=mesh.kubeconfig,
        profile=profile,
        report_dir=tmp_path,
    )
    campaign = Campaign(options, run=new_run_id())
    owner = Owner(campaign, lambda _: None)
    lines = []
    with syncing(mesh.kube, stranger.kube):
        try:
            kube = owner.start()
            campaign.open_rig(kube, lambda _: None)
            lines = [campaign.conduct(campaign.cases[case]) for case in CASES]
            made = find_owned(mesh.kube)
            referred = [item.key.kind for item in made if _owners(mesh.kube, item.key.path)]
        finally:
            campaign.close_rig()
            owner.stop()
    assert [(line["id"], line["status"]) for line in lines] == [(case, "passed") for case in CASES], [
        line["reason"] for line in lines
    ]
    barriers = [step["barrier"]["strategy"] for line in lines for step in line["steps"] if step["barrier"]]
    assert set(barriers) == {"istio-config-dump"}
    assert pilot_agent
    assert referred == []
    (policies,) = [check for check in owner.preflight if check.name == "policies"]
    address = mesh.kube.client.configuration.host
    assert policies.said == f"written to and read back from {address}; the data plane's API serves them, too"
    for side in (stranger, mesh):
        nothing_is_left(side)


def _owners(kube: Kube, path: str) -> object:
    return kube.request("GET", path).body["metadata"].get("ownerReferences")


def test_a_mesh_that_does_not_send_its_labels_is_told(
    stranger: Stranger, mesh: Stranger, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(
        cluster="existing",
        kubeconfig=stranger.kubeconfig,
        mesh_kubeconfig=mesh.kubeconfig,
        profile=profile,
        report_dir=tmp_path,
    )
    owner = Owner(Campaign(options, run=new_run_id()), lambda _: None)
    monkeypatch.setattr("conformance.cluster.two_apis.PATIENCE", 0.5)
    try:
        with pytest.raises(
            SetupError, match=r"istio-injection=enabled of the namespace authz-conf-.* did not come"
        ):
            owner.start()
    finally:
        owner.stop()
    for side in (stranger, mesh):
        nothing_is_left(side)


def test_the_bundled_mesh_has_one_api(stranger: Stranger) -> None:
    options = Options(cluster="existing", kubeconfig=stranger.kubeconfig, mesh_kubeconfig=stranger.kubeconfig)
    with pytest.raises(InputError, match="has no API of its own"):
        Campaign(options, run="r").connect(stranger.kubeconfig)
