"""Whole cases on a real cluster without a mesh: what a run says where nothing is enforced.

The workloads, the exec streams and the logs are real; only the barrier is replaced, as there is no mesh that
could prove anything. A suite that is green here would be worth nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.act import Act
from conformance.barrier import Changes
from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.install import MANIFESTS, install_workloads, read_manifests
from conformance.cluster.kube import Answer, Kube, ObjectKey
from conformance.cluster.ready import wait_for_deletion
from conformance.errors import ProbeError, SetupError
from conformance.evidence import Kind, Observation, Outcome, Waited
from conformance.notes import CaseResult, Notes
from conformance.pods import Pod, pods_by_workload, service_addresses
from conformance.probers import Probers
from conformance.profile import find_profile, load_profile
from conformance.reading import Problems
from conformance.rig import Rig
from conformance.run import _delivered_late, _first_connections, run_case
from conformance.scenario import Expectation
from conformance.scenario_reader import load_file
from conformance.step_result import content_of
from conformance.sweep import Lane, Probed, lanes
from conformance.telemetry import log_connections
from conformance.topology import NAMESPACES, Names, Ref
from conformance.verdict import Failure, Status, Verdict

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
    profile = replace(load_profile(find_profile("bundled")), attribution=(), injection_labels={}, rounds=2)
    # Only what is never reached here: a deadline that a test has to wait for is its own to shorten.
    late = replace(
        profile.deadlines,
        ready=120,
        probe=60,
        baseline=60,
        converge=60,
        testimony=60,
        attribution=60,
        recovery=60,
    )
    profile = replace(profile, deadlines=late)
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
    file.parent.mkdir(parents=True)
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


DENY_ALL = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "of-others"},
    "spec": {"action": "DENY", "rules": [{}]},
}
ONLY_9000 = (
    "- apply: all\n"
    "  expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded, by: {policy: p}}]"
)


def test_what_others_have_on_the_cluster_is_named_and_nothing_is_concluded(rig: Rig, tmp_path: Path) -> None:
    key, answer = rig.kube.apply(DENY_ALL, namespace=rig.names.real("foo"))
    answer.or_raise("apply")
    try:
        line = run(rig, tmp_path / "with", ONLY_9000).line
    finally:
        rig.kube.delete(key)
    assert (line["status"], line["failure"]) == ("inconclusive", None)
    assert f"AuthorizationPolicy {rig.names.real('foo')}/of-others" in line["reason"]
    assert run(rig, tmp_path / "without", ONLY_9000).line["status"] == "passed"


def test_the_record_has_the_oracles_word_for_every_lane(rig: Rig, tmp_path: Path) -> None:
    line = run(rig, tmp_path, ONLY_9000).line
    (lane,) = line["oracle"]["lanes"]
    real = f"{rig.names.real('foo')}/p"
    assert (lane["step"], lane["port"], lane["outcome"], lane["doubt"]) == (1, 9000, "allowed", None)
    assert lane["deciders"] == [{"policy": real, "rule": 0}]
    assert lane["policies"][0]["rules"][0]["matches"] is True
    assert line["attribution"] == "unavailable"  # this rig has no mesh to ask


def test_documents_that_cannot_be_read_leave_the_evidence_as_it_is(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise SetupError("no answer from the Kubernetes API")

    monkeypatch.setattr(rig.kube, "list", fail)
    allowed = "- expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}]"
    line = run(rig, tmp_path / "one", allowed).line
    assert (line["status"], line["steps"][0]["status"]) == ("inconclusive", "inconclusive")
    assert "the documents in force are not known" in line["reason"]
    forbidden = allowed.replace("succeeded", "rejected")
    assert run(rig, tmp_path / "two", forbidden).line["failure"] == "allowed but forbidden"


def test_access_logs_are_switched_on_where_the_cluster_can(rig: Rig) -> None:
    said: list[str] = []
    assert not log_connections(rig.kube, rig.names, said.append)
    assert "no Telemetry" in said[0]
    rig.kube.apply(TELEMETRY_CRD)[1].or_raise("apply the CRD")
    deadline = time.monotonic() + 30
    while not rig.kube.serves("telemetry.istio.io/v1", "Telemetry"):
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a CRD is established a moment after it was made
    assert log_connections(rig.kube, rig.names, said.append)
    made, _ = rig.kube.list("telemetry.istio.io/v1", "Telemetry")
    assert {item["metadata"]["namespace"] for item in made} == {
        rig.names.real("foo"),
        rig.names.real("bar"),
    }
    assert made[0]["spec"] == {"accessLogging": [{"providers": [{"name": "envoy"}]}]}


TELEMETRY_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "telemetries.telemetry.istio.io"},
    "spec": {
        "group": "telemetry.istio.io",
        "scope": "Namespaced",
        "names": {
            "kind": "Telemetry",
            "listKind": "TelemetryList",
            "plural": "telemetries",
            "singular": "telemetry",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                        },
                    }
                },
            }
        ],
    },
}


def policy_key(rig: Rig, name: str = "p") -> ObjectKey:
    return ObjectKey(
        api_version="security.istio.io/v1",
        kind="AuthorizationPolicy",
        resource="authorizationpolicies",
        namespace=rig.names.real("foo"),
        name=name,
    )


LOOK = "- expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}]"


def test_no_case_runs_beside_what_an_earlier_one_left(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(key: ObjectKey) -> Answer:
        return Answer(code=500, reason="InternalError", message=f"no {key.name}")

    with monkeypatch.context() as broken:
        broken.setattr(rig.kube, "delete", refuse)
        result = run(rig, tmp_path / "one", f"- apply: all\n{LOOK}")
        assert (result.line["status"], rig.leftovers) == ("inconclusive", [policy_key(rig)])
        result = run(rig, tmp_path / "two", LOOK)
        assert result.line["status"] == "inconclusive"
        assert "an earlier case's AuthorizationPolicy" in result.line["reason"]
    assert run(rig, tmp_path / "three", LOOK).line["status"] == "passed"
    assert (rig.leftovers, rig.kube.get(policy_key(rig)).code) == ([], 404)


def test_labels_that_cannot_be_put_back_are_inconclusive_and_no_traceback(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, calls = rig.kube.merge_patch, []

    def once(key: ObjectKey, body: Mapping[str, Any]) -> Answer:
        calls.append(key)
        if len(calls) > 1:
            raise SetupError("no answer from the Kubernetes API")
        return patch(key, body)

    monkeypatch.setattr(rig.kube, "merge_patch", once)
    result = run(rig, tmp_path, f"- label: {{workload: sleep-b.foo, set: {{version: v9}}}}\n{LOOK}")
    assert (result.line["status"], result.line["reason"]) == (
        "inconclusive",
        "no answer from the Kubernetes API",
    )


def test_a_refusal_is_asked_for_as_a_new_object_and_as_a_change(rig: Rig, tmp_path: Path) -> None:
    wrong = "- patch: {name: p, patch: {spec: {action: ALLOW}}}\n- apply: all\n  refused: {code: 422}"
    result = run(rig, tmp_path, f"- apply: all\n{wrong}")
    assert result.line["failure"] == "not refused by validation"
    reason = "nothing but its name kept AuthorizationPolicy"
    assert reason in result.line["reason"]  # the create is answered 409, which refuses no content
    assert [call["action"] for call in result.line["steps"][2]["api"]] == ["create", "apply"]


@pytest.mark.parametrize(
    ("stored", "status"),
    [
        pytest.param({"action": "DENY", "rules": [{}]}, "failed", id="what-was-refused"),
        pytest.param({"action": "AUDIT"}, "inconclusive", id="what-somebody-else-wrote"),
    ],
)
def test_a_refused_write_that_is_stored_is_a_breach(
    stored: Mapping[str, Any], status: str, rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apply, create, sent = rig.kube.apply, rig.kube.create, []
    no = Answer(code=400, reason="Invalid", message="no")

    def refused_and_stored(body: Mapping[str, Any], **more: Any) -> tuple[ObjectKey, Answer]:
        sent.append(body)
        if len(sent) == 1:
            return apply(body, **more)
        key, _ = apply({**body, "spec": stored}, **more)
        return key, no

    def refused(body: Mapping[str, Any], **more: Any) -> Answer:
        return no if body["spec"].get("action") == "DENY" else create(body, **more)

    monkeypatch.setattr(rig.kube, "create", refused)
    monkeypatch.setattr(rig.kube, "apply", refused_and_stored)
    file = tmp_path / "group" / "case.yaml"
    file.parent.mkdir()
    steps = "- apply: [p]\n- apply: [p#2]\n  refused: {code: [400, 409]}"
    second = (
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: p}\nspec: {action: DENY, rules: [{}]}\n"
    )
    file.write_text(CASE.format(title="Something is so", steps=steps) + second)
    scenario = next(iter(load_file(file, tmp_path, Problems())))
    result = run_case(scenario, rig)
    assert result.line["status"] == status, result.line["reason"]
    said = "was refused, yet it changed" if status == "failed" else "somebody else changed"
    assert said in result.line["reason"]
    assert rig.kube.get(policy_key(rig)).code == 404


def test_a_workload_that_did_not_come_back_has_no_log_that_proves_absence(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = Ref(name="tcp-echo", namespace="bar")
    assert str(ref) not in rig.silent_backends()
    with monkeypatch.context() as hasty:
        deadlines = replace(rig.profile.deadlines, ready=0)
        hasty.setattr(rig, "profile", replace(rig.profile, deadlines=deadlines))
        with pytest.raises(SetupError, match="the new pod of"):
            rig.restart(ref)
        assert str(ref) in rig.silent_backends()
    rig.heal()
    assert str(ref) not in rig.silent_backends()


def test_replacing_an_object_is_an_update_and_survives_other_writers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "replaced"},
        "spec": {"action": "ALLOW"},
    }
    namespace = rig.names.real("foo")
    rig.kube.apply(document, namespace=namespace)[1].or_raise("apply")
    request, methods = rig.kube.request, []

    def between(method: str, path: str, **rest: Any) -> Answer:
        methods.append(method)
        if methods == ["GET", "PUT"]:  # somebody else writes first
            labels = {"metadata": {"labels": {"a": "b"}}}
            request("PATCH", path, body=labels, content_type="application/merge-patch+json")
        return request(method, path, **rest)

    monkeypatch.setattr(rig.kube, "request", between)
    key, answer = rig.kube.apply({**document, "spec": {"action": "DENY"}}, namespace=namespace)
    assert (answer.code, answer.body["spec"]) == (200, {"action": "DENY"})
    assert methods == ["GET", "PUT", "GET", "PUT"]
    rig.kube.delete(key)


def test_the_status_and_the_version_of_an_object_are_not_its_content() -> None:
    def content(version: str, action: str) -> object:
        body = {"metadata": {"uid": "u", "resourceVersion": version}, "spec": {"action": action}}
        return content_of(Answer(code=200, body=body | {"status": {"at": version}}))

    assert content("1", "DENY") == content("2", "DENY")
    assert content("1", "DENY") != content("1", "ALLOW")
    assert content_of(Answer(code=404)) is None


def test_bytes_that_arrive_after_their_step_was_judged_are_a_breach(rig: Rig) -> None:
    target = Ref(name="tcp-echo", namespace="foo")
    lane = Lane(
        source=Ref(name="sleep", namespace="foo"),
        target=target,
        via="service",
        port=9001,
        workload=target,
        workload_port=9001,
    )
    seen = Observation(kind=Kind.CLOSED)
    probed = Probed(lane=lane, nonce="n0123456789abcdef", line="port 9001 n0123456789abcdef", seen=seen)
    notes = Notes(begun=0.0, forbidden=[probed])
    assert _delivered_late(rig, notes) == []
    line = {"log": "connection", "port": 9001, "text": probed.line, "bytes": 28}
    rig.logbook.reader("tcp-echo.foo")(line)
    assert [verdict.failure for verdict in _delivered_late(rig, notes)] == [Failure.DELIVERED]


def test_a_recovery_that_is_not_proven_has_no_time(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time would be the barrier's patience, and the mesh would be over its budget for it."""

    def unproven(*_: object) -> Waited:
        return Waited(strategy="none", landed=False, seconds=30.0, detail="no word of it")

    monkeypatch.setattr("conformance.open_paths.await_landing", unproven)
    steps = "- expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}]"
    result = run(rig, tmp_path, steps)
    assert result.line["status"] == "inconclusive", result.verdict
    assert "the deletion is not proven to have landed: no word of it" in result.line["reason"]
    assert result.line["time_to_recover_ms"] is None


def test_a_new_pod_that_is_open_at_first_is_a_breach_whatever_it_does_later(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(*_: object) -> list[Verdict]:
        return [Verdict(status=Status.PASSED, reason="it closes in time")]

    monkeypatch.setattr("conformance.run.look", later)
    steps = (
        "- restart: tcp-echo.foo\n"
        "  expect: [{from: sleep.foo, to: tcp-echo.foo, ports: [9000], via: pod, outcome: rejected}]"
    )
    result = run(rig, tmp_path, steps)
    assert result.line["failure"] == "allowed but forbidden"
    assert "from the first connection on" in result.line["reason"]


def test_a_case_waits_once_for_a_prober_that_does_not_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def silent(*_: object, what: str, **__: object) -> None:
        asked.append(what)
        raise ProbeError(f"{what}: no line within its deadline")

    monkeypatch.setattr("conformance.probers.open_exec", silent)
    monkeypatch.setattr(rig.kube, "timeout", 0.0)  # whatever it takes is too long
    monkeypatch.setattr(rig._probers, "_sessions", {})
    client = Ref.parse("sleep.foo")
    for _ in range(2):
        assert rig.open_sessions([client]) == {client: "prober in sleep.foo: no line within its deadline"}
    assert asked == ["prober in sleep.foo"]
    rig.forget()
    assert client in rig.open_sessions([client])
    assert len(asked) == 2
    monkeypatch.undo()
    rig.forget()
    rig.heal()
    assert rig.open_sessions([client]) == {}


def test_a_next_pod_is_waited_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def silent(*_: object, pod: str, **__: object) -> None:
        asked.append(pod)
        raise ProbeError("no line within its deadline")

    monkeypatch.setattr("conformance.probers.open_exec", silent)
    kube: Any = SimpleNamespace(timeout=0.0)  # whatever it takes is too long
    probers, ref = Probers(kube), Ref.parse("sleep.foo")
    for name in ("one", "one", "two"):
        pod = Pod(name=name, namespace="foo", address="", sidecar=False, labels={})
        if name == "two":
            probers.drop(ref)
        with pytest.raises(ProbeError):
            probers.session(ref, pod, 0.0)
    assert asked == ["one", "two"]


def test_what_a_misled_probe_delivers_is_not_held_against_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = Ref.parse("sleep.foo"), Ref.parse("tcp-echo.foo")
    rows = [Expectation(source=client, target=server, ports=(9000,), outcome=Outcome.REJECTED)]
    seen = Observation(kind=Kind.UNKNOWN, why="its name led elsewhere")
    probed = Probed(lane=lanes(rows)[0].lane, nonce="n1", line="n1", seen=seen, misled=True)
    rig: Any = SimpleNamespace(profile=load_profile(find_profile("bundled")))
    nothing: Any = None
    notes = Notes(begun=0.0)
    for module in ("run", "act"):
        monkeypatch.setattr(f"conformance.{module}.sweep", lambda *_: [probed])
    assert _first_connections(rig, lanes(rows), notes) == []
    assert Act(rig, nothing, nothing, notes).probe(rows) == [probed]
    assert notes.forbidden == []


def test_a_stopped_backend_is_inconclusive_and_never_a_rejection(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = replace(rig.profile.deadlines, ready=1, baseline=0.3, recovery=0.3, probe=1)
    monkeypatch.setattr(rig, "profile", replace(rig.profile, deadlines=soon))
    ref = Ref(name="tcp-echo", namespace="legacy")
    pod = rig.pods[ref]
    metadata = {"name": "tcp-echo", "namespace": pod.namespace}
    key = rig.kube.key({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
    rig.kube.merge_patch(key, {"spec": {"replicas": 0}}).or_raise("stop tcp-echo")
    gone = rig.kube.key(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name, "namespace": pod.namespace}}
    )
    assert wait_for_deletion(rig.kube, gone, deadline=time.monotonic() + 60)
    steps = "- expect: [{from: sleep.foo, to: tcp-echo.legacy, ports: [9000], outcome: rejected}]"
    for name in ("one", "two"):
        result = run(rig, tmp_path / name, steps)
        assert result.line["status"] == "inconclusive"
        assert "no ready pod of tcp-echo.legacy, which ran before" in result.line["reason"]
