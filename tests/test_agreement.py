"""Expectations are worked through step by step, and each that the oracle sees differently is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance import agreement
from conformance.agreement import disagreements
from conformance.foresight import AUTHORIZERS, LABELS, MESH, service_account
from conformance.oracle import Authorizer
from conformance.reading import Problems
from conformance.scenario_reader import load_file, load_scenarios
from conformance.topology import WORKLOADS
from conformance.workloads import ext_authz

MANIFESTS = Path(__file__).parent.parent / "manifests" / "workloads"
CASE = """\
kind: Scenario
title: Ports are told apart
requirements: [DOC-02]
level: extended
features: [{features}]
steps:
{steps}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: allow-9000}}
spec: {{rules: [{{to: [{{operation: {{ports: ["9000"]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: bad}}
spec: {{rules: [{{to: [{{operation: {{ports: [http]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: try-deny, annotations: {{istio.io/dry-run: "true"}}}}
spec: {{action: DENY, rules: [{{from: [{{source: {{namespaces: ["${{foo}}"]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: v2-only}}
spec: {{selector: {{matchLabels: {{version: v2}}}}, action: DENY, rules: [{{}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: every-ipv6}}
spec: {{action: DENY, rules: [{{from: [{{source: {{ipBlocks: ["::/0"]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: custom}}
spec: {{action: CUSTOM, provider: {{name: x}}, rules: [{{}}]}}
"""
ALLOW = "- apply: [allow-9000]\n  expect:\n"
PATH = "  - {from: sleep.foo, to: tcp-echo.foo, "


def found(root: Path, steps: str, features: str = "") -> list[str]:
    file = root / "group" / "name.yaml"
    file.parent.mkdir()
    file.write_text(CASE.format(steps=steps, features=features))
    problems = Problems()
    scenarios = load_file(file, root, problems)
    assert problems.found == []
    return [
        f"{problem.line}: {problem.message.removeprefix('the oracle disagrees: ')}"
        for problem in disagreements(scenarios)
    ]


@pytest.mark.parametrize(
    "steps",
    [
        ALLOW + PATH + "ports: [9000], outcome: succeeded, by: {policy: allow-9000, rule: 0}}",
        ALLOW + PATH + "ports: [9001], outcome: rejected, by: none}",
        ALLOW + PATH + "ports: [9001], outcome: succeeded, dataplane: ztunnel}",
        ALLOW + PATH + "ports: [9001], outcome: unreachable}",
        "- apply: [bad]\n  refused: {code: 400}",
        "- apply: [allow-9000]\n- delete: [allow-9000]\n  expect:\n"
        + PATH
        + "ports: [9001], outcome: succeeded}",
        "- apply: [allow-9000]\n- patch: {name: allow-9000, patch: {spec: {rules: null}}}\n  expect:\n"
        + PATH
        + "ports: [9000], outcome: rejected, by: none}",
        "- apply: [try-deny]\n  expect:\n"
        + PATH
        + "ports: [9000], outcome: succeeded, dry_run: {deny: denied, policy: try-deny}}",
        "- apply: [v2-only]\n- label: {workload: tcp-echo.foo, set: {version: v2}}\n  expect:\n"
        + PATH
        + "ports: [9000], outcome: rejected, by: {policy: v2-only, rule: 0}}",
        "- apply: [v2-only]\n- label: {workload: tcp-echo.foo, set: {version: v2}}\n"
        "- restart: tcp-echo.foo\n  expect:\n" + PATH + "ports: [9000], outcome: succeeded}",
        "- apply: [strict]\n  expect:\n"
        "  - {from: sleep.legacy, to: tcp-echo.foo, ports: [9000], outcome: rejected, "
        "by: {peer-authentication: true}}\n"
        + PATH
        + "ports: [9000], outcome: succeeded}\n"
        + PATH
        + "ports: [9000], via: pod, outcome: rejected}",
        # Both ends of a connection are of one family, and no block holds an address of the other.
        "- apply: [every-ipv6]\n  expect:\n"
        + PATH
        + "ports: [9000], via: pod6, outcome: rejected, by: {policy: every-ipv6, rule: 0}}\n"
        + PATH
        + "ports: [9000], via: pod, outcome: succeeded}",
    ],
)
def test_agreement(tmp_path: Path, steps: str) -> None:
    assert found(tmp_path, steps) == []


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            ALLOW + PATH + "ports: [9000, 9001], outcome: succeeded}",
            "9: sleep.foo -> tcp-echo.foo:9001: denied, because no ALLOW rule matches",
        ),
        (ALLOW + PATH + "ports: [9000], outcome: rejected}", "9: sleep.foo -> tcp-echo.foo:9000: allowed"),
        (ALLOW + PATH + "ports: [9000], outcome: succeeded, by: {policy: bad}}", "not by bad"),
        (
            ALLOW + PATH + "ports: [9000], outcome: succeeded, by: {policy: allow-9000, rule: 1}}",
            "not by allow-9000 rule 1",
        ),
        (
            ALLOW
            + PATH
            + "ports: [9000], outcome: succeeded, by: {policy: allow-9000, namespace: bar, rule: 0}}",
            "not by allow-9000 rule 0",
        ),
        (ALLOW + PATH + "ports: [9000], outcome: succeeded, by: none}", "not by no ALLOW rule matched"),
        (
            ALLOW + PATH + "ports: [9001], outcome: rejected, by: {peer-authentication: true}}",
            "not by PeerAuthentication",
        ),
        (
            "- apply: [strict]\n  expect:\n" + PATH + "ports: [9000], via: pod, outcome: rejected, by: none}",
            "not by no ALLOW rule matched: plaintext is refused",
        ),
        ("- apply: [bad]", "7: AuthorizationPolicy bad is refused: spec.rules[0]"),
        (
            "- apply: [allow-9000]\n  refused: {code: 400}",
            "7: AuthorizationPolicy allow-9000 must be refused",
        ),
        ("- apply: [allow-9000]\n  warnings: [so]", "7: there is nothing to warn of"),
        ("- patch: {name: bad, patch: {spec: {}}}", "7: what is patched is not there"),
        (
            "- apply: [try-deny]\n  expect:\n"
            + PATH
            + "ports: [9000], outcome: succeeded, dry_run: {deny: allowed}}",
            "dry-run deny shows denied, not allowed",
        ),
        (
            ALLOW + PATH + "ports: [9000], outcome: succeeded, dry_run: {allow: allowed}}",
            "dry-run allow shows nothing, not allowed",
        ),
        (
            "- apply: [try-deny]\n  expect:\n"
            + PATH
            + "ports: [9000], outcome: succeeded, dry_run: {policy: bad}}",
            "dry-run does not name bad",
        ),
        (
            "- apply: [strict]\n  expect:\n"
            "  - {from: sleep.legacy, to: tcp-echo.foo, ports: [9000], outcome: rejected, by: none}",
            "plaintext is refused before any policy is asked: STRICT",
        ),
        (
            ALLOW + PATH + "ports: [9000], outcome: succeeded, audited: {policy: allow-9000}}",
            "audited by no policy, not by allow-9000",
        ),
        (
            "- apply: [custom]\n  expect:\n" + PATH + "ports: [9000], outcome: succeeded}",
            "CUSTOM foo-r0-uno/custom rule 0 matches, and the mesh knows no external authorizer x",
        ),
    ],
)
def test_disagreement(tmp_path: Path, steps: str, message: str) -> None:
    problems = found(tmp_path, steps)
    assert len(problems) == 1, problems
    assert message in problems[0]


def test_what_is_beyond_the_oracle_is_left_to_the_run(tmp_path: Path) -> None:
    steps = "- apply: [custom]\n  expect:\n" + PATH + "ports: [9000], outcome: succeeded}"
    assert found(tmp_path, steps, features="routing") == []


def test_what_the_oracle_cannot_tell_is_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MESH", replace(MESH, authorizers=None))
    steps = "- apply: [custom]\n  expect:\n" + PATH + "ports: [9000], outcome: succeeded}"
    [told] = found(tmp_path, steps, features="custom")
    assert "it cannot tell: CUSTOM foo-r0-uno/custom rule 0 matches" in told


def test_authorizers_are_those_of_the_mesh_configuration_and_of_the_sample() -> None:
    [mesh] = [
        yaml.safe_load(body["data"]["mesh.yaml"])
        for body in yaml.safe_load_all((MANIFESTS.parent / "enforcer" / "20-mesh.yaml").read_text())
    ]
    declared = {}
    for provider in mesh["extensionProviders"]:
        grpc = provider.get("envoyExtAuthzGrpc")
        up = (grpc or {}).get("port") == ext_authz.PORT
        declared[provider["name"]] = Authorizer(
            grpc=grpc is not None,
            answers=up or grpc is None,
            fail_open=(grpc or {}).get("failOpen", False),
            denies=ext_authz.DENIED_PORTS if up else None,
        )
    assert declared == AUTHORIZERS


def test_it_agrees_with_every_scenario_here() -> None:
    scenarios = load_scenarios()
    assert scenarios
    assert [str(problem) for problem in disagreements(scenarios)] == []


def test_labels_and_accounts_are_those_of_the_manifests() -> None:
    written: dict[str, tuple[Any, str]] = {}
    for file in MANIFESTS.glob("*.yaml"):
        for body in yaml.safe_load_all(file.read_text()):
            if body and body["kind"] == "Deployment":
                template = body["spec"]["template"]
                account = template["spec"]["serviceAccountName"]
                written[body["metadata"]["name"]] = (template["metadata"]["labels"], account)
    for ref in WORKLOADS:
        assert (dict(LABELS[ref]), service_account(ref)) == written[ref.name]
