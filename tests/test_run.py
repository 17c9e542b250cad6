"""Whole cases on a real cluster without a mesh: what a run says where nothing is enforced.

The workloads, the exec streams and the logs are real; only the barrier is replaced, as there is no mesh that
could prove anything. A suite that is green here would be worth nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.barrier import Changes
from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.install import MANIFESTS, install_workloads, read_manifests
from conformance.cluster.kube import Kube
from conformance.cluster.ready import wait_for_deletion
from conformance.evidence import Waited
from conformance.profile import find_profile, load_profile
from conformance.reading import Problems
from conformance.rig import Rig, pods_by_workload, service_addresses
from conformance.run import CaseResult, run_case
from conformance.scenario_reader import load_file
from conformance.topology import NAMESPACES, Names, Ref

CASE = """\
kind: Scenario
title: {title}
requirements: [DOC-02]
level: core
steps:
{steps}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p}}
spec: {{rules: [{{to: [{{operation: {{ports: ["9000"]}}}}]}}]}}
"""


class NoMesh:
    """Says at once that everything has landed, as a mesh that lies would."""

    def wait(self, changes: Changes, *, pods: Sequence[str], timeout: float) -> Waited:
        return Waited(strategy="none", landed=True, seconds=0.0, detail="nothing enforces here")

    def close(self) -> None:
        return


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    profile = replace(
        load_profile(find_profile("bundled")), attribution="none", injection_labels={}, rounds=2
    )
    profile = replace(
        profile,
        deadlines=replace(profile.deadlines, baseline=0.3, converge=0.3, recovery=0.3, testimony=1, probe=1),
    )
    names = Names(run="t1", worker="", root="authz-system")
    with start_embedded() as cluster:
        kube = Kube(cluster.kubeconfig)
        for crd in read_manifests(sorted((MANIFESTS / "crds").glob("*.yaml"))):
            kube.apply(crd)[1].or_raise("apply a CRD")
        pods = install_workloads(kube, profile, names)
        found = pods_by_workload(names, [pod for group in pods.values() for pod in group], profile)
        services = service_addresses(kube, names, NAMESPACES)
        rig = Rig(kube=kube, profile=profile, names=names, pods=found, services=services, barrier=NoMesh())
        yield rig
        rig.close()
        kube.close()


def run(rig: Rig, root: Path, steps: str) -> CaseResult:
    file = root / "group" / "case.yaml"
    file.parent.mkdir()
    file.write_text(CASE.format(title="Something is so", steps=steps))
    problems = Problems()
    scenario = next(iter(load_file(file, root, problems)), None)
    assert scenario is not None, problems.found
    return run_case(scenario, rig)


def test_an_open_path_passes_where_it_must_be_open(rig: Rig, tmp_path: Path) -> None:
    steps = "- expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000, 9003], outcome: succeeded}]"
    result = run(rig, tmp_path, steps)
    assert (result.line["status"], result.line["failure"]) == ("passed", None), result.verdict
    probe = result.line["steps"][0]["probes"][0]
    assert probe["testimony"] == {"seen_in": ("tcp-echo.foo",), "complete": True, "why": ""}


def test_a_mesh_that_enforces_nothing_is_a_breach(rig: Rig, tmp_path: Path) -> None:
    steps = (
        "- apply: all\n"
        "  expect:\n"
        "  - {from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}\n"
        "  - {from: sleep.bar, to: tcp-echo.foo, ports: [9001], outcome: rejected}"
    )
    result = run(rig, tmp_path, steps)
    assert (result.line["status"], result.line["failure"]) == ("failed", "allowed but forbidden")
    assert "sleep.bar -> tcp-echo.foo:9001 must be rejected" in result.line["reason"]
    assert result.line["controls"]["recovery"]["held"] is True


def test_what_validation_must_refuse_and_takes_is_a_breach(rig: Rig, tmp_path: Path) -> None:
    steps = "- apply: all\n  refused: {code: 422}"
    result = run(rig, tmp_path, steps)
    assert result.line["failure"] == "not refused by validation"


def test_an_object_is_read_back_in_another_version(rig: Rig, tmp_path: Path) -> None:
    steps = (
        "- apply: all\n"
        "- read: {name: p, version: v1beta1, equals: {spec.rules.0.to.0.operation.ports.0: '9000'}}"
    )
    assert run(rig, tmp_path, steps).line["status"] == "passed"


def test_a_restarted_workload_is_found_again_and_counts_as_other_processes(rig: Rig, tmp_path: Path) -> None:
    steps = (
        "- restart: tcp-echo.foo\n"
        "  expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}]\n"
        "- unchanged: [tcp-echo.foo]"
    )
    result = run(rig, tmp_path, steps)
    assert [step["status"] for step in result.line["steps"]] == ["passed", "failed"]
    assert result.line["failure"] == "other processes than before"


def test_labels_are_put_back(rig: Rig, tmp_path: Path) -> None:
    steps = (
        "- label: {workload: sleep.foo, set: {version: v9}}\n"
        "- expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}]"
    )
    assert run(rig, tmp_path, steps).line["status"] == "passed"
    pod = rig.pods[Ref(name="sleep", namespace="foo")]
    found, _ = rig.kube.list("v1", "Pod", namespace=pod.namespace, selector="version=v9")
    assert found == []


def test_a_stopped_backend_is_inconclusive_and_never_a_rejection(rig: Rig, tmp_path: Path) -> None:
    ref = Ref(name="tcp-echo", namespace="legacy")
    pod = rig.pods[ref]
    metadata = {"name": "tcp-echo", "namespace": pod.namespace}
    key = rig.kube.key({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
    rig.kube.merge_patch(key, {"spec": {"replicas": 0}}).or_raise("stop tcp-echo")
    gone = rig.kube.key(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name, "namespace": pod.namespace}}
    )
    assert wait_for_deletion(rig.kube, gone, deadline=time.monotonic() + 20)
    steps = "- expect: [{from: sleep.foo, to: tcp-echo.legacy, ports: [9000], outcome: rejected}]"
    result = run(rig, tmp_path, steps)
    assert result.line["status"] == "inconclusive"
    assert "the baseline does not hold" in result.line["reason"]
