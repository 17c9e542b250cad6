"""What is told before the first case, in one line each, and that nothing is left of it."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.campaign import Campaign
from conformance.campaign_options import Options, new_run_id
from conformance.campaign_owner import Owner
from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.kube import Kube
from conformance.cluster.ownership import find_owned
from conformance.errors import ConformanceError
from conformance.preflight import Ground, canary, hindrance
from conformance.preflight.canary import no_data_plane
from conformance.profile import PROFILES
from tests.existing.conftest import Stranger
from tests.existing.test_ownership import nothing_is_left
from tests.existing.test_roles import kubeconfig
from tests.processes import wait_until

LENT = {"foo": "pre-foo", "bar": "pre-bar", "legacy": "pre-legacy"}


def told(options: Options) -> str:
    """What a run says that cannot start; a run that starts, or removes in vain, fails the test."""
    lines: list[str] = []
    owner = Owner(Campaign(replace(options, cluster="existing"), run=new_run_id()), lines.append)
    try:
        with pytest.raises(ConformanceError) as raised:
            owner.start()
        return str(raised.value)
    finally:
        owner.stop()
        assert not [line for line in lines if line.startswith("not deleted")]


@pytest.fixture
def options(stranger: Stranger, tmp_path: Path) -> Options:
    return Options(kubeconfig=stranger.kubeconfig, report_dir=tmp_path / "reports")


@contextmanager
def namespaces(stranger: Stranger, **labels: Mapping[str, str]) -> Iterator[None]:
    """The lent namespaces; `labels` by logical name, injected where nothing is said."""
    for logical, real in LENT.items():
        usual = {} if logical == "legacy" else {"istio-injection": "enabled"}
        body = {"metadata": {"name": real, "labels": labels.get(logical, usual)}}
        stranger.kube.create({"apiVersion": "v1", "kind": "Namespace", **body}).or_raise(real)
    try:
        yield
    finally:
        for real in LENT.values():
            stranger.kube.request("DELETE", f"/api/v1/namespaces/{real}")

        def gone() -> bool:
            return not stranger.namespaces() & set(LENT.values()) and all(
                stranger.kube.request("GET", f"/api/v1/namespaces/{real}").code == 404
                for real in LENT.values()
            )

        wait_until(gone, seconds=120, what="the lent namespaces are gone")


def test_a_context_that_is_not_there(options: Options) -> None:
    assert "has no context 'nope' (--context, one of: embedded)" in told(replace(options, context="nope"))


def test_credentials_that_count_no_more(stranger: Stranger, options: Options, tmp_path: Path) -> None:
    stale = kubeconfig(stranger, tmp_path / "stale", token="expired")
    said = told(replace(options, kubeconfig=stale))
    assert "preflight: api: the Kubernetes API at" in said
    assert "refuses the credentials" in said
    assert "--context" in said
    assert "\n" not in said


def test_a_token_that_has_expired(stranger: Stranger, options: Options, tmp_path: Path) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1700000000}).encode()).rstrip(b"=").decode()
    stale = kubeconfig(stranger, tmp_path / "stale", token=f"e30.{claims}.c2lnbmVk")
    said = told(replace(options, kubeconfig=stale))
    assert "refuses the credentials" in said
    assert "its token expired on 2023-11-14 22:13 UTC (renew the credentials" in said
    assert "\n" not in said


def test_an_api_that_does_not_answer(stranger: Stranger, options: Options, tmp_path: Path) -> None:
    content = yaml.safe_load(stranger.kubeconfig.read_text())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    (tmp_path / "dead").write_text(yaml.safe_dump(content))
    said = told(replace(options, kubeconfig=tmp_path / "dead"))
    assert f"preflight: api: no answer from the Kubernetes API at https://127.0.0.1:{port}" in said
    assert "Connection refused" in said
    assert "\n" not in said


def test_a_cluster_without_a_mesh(options: Options) -> None:
    with start_embedded() as bare:
        kube = Kube(bare.kubeconfig)
        before, _ = kube.list("v1", "Namespace")
        said = told(replace(options, kubeconfig=bare.kubeconfig))
        after, _ = kube.list("v1", "Namespace")
        kube.close()
    assert "preflight: kind AuthorizationPolicy: the API does not serve it" in said
    assert [item["metadata"]["name"] for item in after] == [item["metadata"]["name"] for item in before]


def test_lent_namespaces_that_are_not_there(options: Options) -> None:
    said = told(replace(options, namespaces=LENT)).splitlines()
    assert [line.split(" (")[0] for line in said] == [
        f"preflight: namespace {real}: 404 NotFound" for real in LENT.values()
    ]


def test_a_lent_namespace_without_injection(stranger: Stranger, options: Options) -> None:
    with namespaces(stranger, foo={}):
        said = told(replace(options, namespaces=LENT))
        assert find_owned(stranger.kube) == []
    assert "preflight: injection: sleep-" in said
    assert "kubectl label namespace pre-foo istio-injection=enabled" in said


def test_a_legacy_namespace_that_is_in_the_mesh(stranger: Stranger, options: Options) -> None:
    with namespaces(stranger, legacy={"istio-injection": "enabled"}):
        assert "preflight: legacy is outside: sleep-" in told(replace(options, namespaces=LENT))


def test_a_legacy_pod_that_ambient_captures_is_in_the_mesh(stranger: Stranger, options: Options) -> None:
    campaign = Campaign(replace(options, cluster="existing"), run="r")
    ground = Ground(
        kube=stranger.kube,
        profile=campaign.profile,
        names=campaign.names,
        lent=frozenset(),
        manifests=options.manifests,
    )
    outside = {"metadata": {"name": "sleep-1"}, "spec": {"containers": [{"name": "sleep"}]}}
    captured = outside | {
        "metadata": {"name": "sleep-2", "annotations": {"ambient.istio.io/redirection": "enabled"}}
    }
    assert no_data_plane(ground, [outside]).ok
    check = no_data_plane(ground, [outside, captured])
    assert not check.ok
    assert check.said == "sleep-2 in authz-conf-r-legacy is in the mesh"
    assert "no istio-injection or istio.io/dataplane-mode on authz-conf-r-legacy" in check.remedy


def test_a_pod_security_level_that_is_too_strict(stranger: Stranger, options: Options) -> None:
    strict = {"istio-injection": "enabled", "pod-security.kubernetes.io/enforce": "restricted"}
    with namespaces(stranger, foo=strict):
        said = told(replace(options, namespaces=LENT))
        assert find_owned(stranger.kube) == []
    assert said.startswith("preflight: workloads in pre-foo: "), said
    assert 'violates PodSecurity "restricted:latest"' in said
    assert "PodSecurity level" in said
    assert "\n" not in said


def test_mutual_tls_that_is_not_in_force(
    stranger: Stranger, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's older policy for the same workload wins, as in Istio."""
    monkeypatch.setattr(canary, "MUTUAL_TLS_SECONDS", 2.0)
    theirs = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "a-theirs", "namespace": "pre-foo"},
        "spec": {"selector": {"matchLabels": {"app": "tcp-echo"}}, "mtls": {"mode": "PERMISSIVE"}},
    }
    with namespaces(stranger):
        stranger.kube.apply(theirs)[1].or_raise("theirs")
        said = told(replace(options, namespaces=LENT))
        assert find_owned(stranger.kube) == []
        assert stranger.kube.get(stranger.kube.key(theirs)).ok
    assert said.startswith(
        "preflight: mutual TLS: a plaintext client still reaches tcp-echo.pre-foo under a STRICT"
    ), said
    assert "see `in place`" in said
    assert "\n" not in said


def test_a_sidecar_that_is_not_istios(stranger: Stranger, options: Options, tmp_path: Path) -> None:
    content = (PROFILES / "istio-sidecar.yaml").read_text()
    (tmp_path / "mesh.yaml").write_text(content.replace("istio-system", "authz-system"))
    said = told(replace(options, profile=str(tmp_path / "mesh.yaml")))
    assert "preflight: proof of landing: the sidecar's configuration cannot be read: pilot-agent in" in said
    assert "not found in $PATH (is istio-proxy a sidecar of Istio? --profile names the mesh)" in said
    assert "\n" not in said
    nothing_is_left(stranger)


def test_a_quota_that_is_too_small(stranger: Stranger, options: Options) -> None:
    quota = {"metadata": {"name": "few", "namespace": "pre-foo"}, "spec": {"hard": {"pods": "2"}}}
    with namespaces(stranger):
        stranger.kube.create({"apiVersion": "v1", "kind": "ResourceQuota", **quota}).or_raise("quota")
        said = told(replace(options, namespaces=LENT))
    assert "preflight: quota pre-foo: few leaves 2 of 4 pods (raise the quota of pre-foo" in said


def test_what_others_made_in_a_lent_namespace_is_not_taken_over(stranger: Stranger, options: Options) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "sleep", "namespace": "pre-foo"},
    }
    with namespaces(stranger):
        stranger.kube.create(theirs).or_raise("theirs")
        said = told(replace(options, namespaces=LENT))
        left = stranger.kube.get(stranger.kube.key(theirs)).body
    assert "ServiceAccount/pre-foo/sleep exists and is not of this run" in said
    assert "labels" not in left["metadata"]


def test_a_namespace_that_is_being_deleted(stranger: Stranger, options: Options) -> None:
    with namespaces(stranger):
        held = {"name": "held", "namespace": "pre-bar", "finalizers": ["example.org/hold"]}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": held}
        stranger.kube.create(body).or_raise("held")
        stranger.kube.request("DELETE", "/api/v1/namespaces/pre-bar")
        try:
            said = told(replace(options, namespaces=LENT))
        finally:
            stranger.kube.merge_patch(stranger.kube.key(body), {"metadata": {"finalizers": None}})
    assert "preflight: namespace pre-bar: it is being deleted" in said


def test_an_image_that_cannot_be_pulled(stranger: Stranger, options: Options, tmp_path: Path) -> None:
    image = "registry.invalid/none:1"
    for room in ("crds", "enforcer", "workloads"):
        (tmp_path / room).mkdir()
        for file in (Path("manifests") / room).glob("*.yaml"):
            text = file.read_text()
            (tmp_path / room / file.name).write_text(
                text.replace("authz-conformance:dev", image) if room == "workloads" else text
            )
    said = told(replace(options, manifests=tmp_path))
    assert "preflight: workloads in authz-conf-" in said
    assert ": ErrImage" in said
    assert "--image" in said
    nothing_is_left(stranger)


def item(kind: str, spec: Mapping[str, Any], namespace: str = "istio-system") -> dict[str, Any]:
    return {"kind": kind, "namespace": namespace, "name": "x", "spec": spec}


def patch(to: str, name: str = "f", context: str = "SIDECAR_INBOUND") -> dict[str, Any]:
    return {"applyTo": to, "match": {"context": context}, "patch": {"value": {"name": name}}}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (item("EnvoyFilter", {"configPatches": [patch("NETWORK_FILTER")]}), "patches NETWORK_FILTER"),
        (item("EnvoyFilter", {"configPatches": [patch("HTTP_FILTER")]}), ""),
        (item("EnvoyFilter", {"configPatches": [patch("LISTENER", context="GATEWAY")]}), ""),
        (item("EnvoyFilter", {"configPatches": [patch("NETWORK_FILTER", "istio.stats")]}), ""),
        (
            item("EnvoyFilter", {"configPatches": [patch("CLUSTER")]})
            | {
                "spec": {
                    "workloadSelector": {"labels": {"app": "theirs"}},
                    "configPatches": [patch("CLUSTER")],
                }
            },
            "",
        ),
        (item("Sidecar", {"egress": [{"hosts": ["./*"]}]}), "changes what sidecars know"),
        (item("NetworkPolicy", {"podSelector": {}}, "foo"), "drops packets"),
        (item("NetworkPolicy", {"podSelector": {}}), ""),  # in the root namespace: not about ours
        (item("Telemetry", {}), ""),
        (item("AuthorizationPolicy", {}), ""),  # the oracle knows those
    ],
)
def test_what_makes_cases_inconclusive(found: dict[str, Any], why: str) -> None:
    said = hindrance([found], root="istio-system")
    assert (why in said) if why else said == ""
    assert bool(said) is bool(why)
