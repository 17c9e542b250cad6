"""`explain` says in words and in JSON what a file does to a connection, and where a file is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.__main__ import main

FILE = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: tcp-policy
spec:
  action: ALLOW
  rules:
  - to:
    - operation:
        ports: ["9000"]
  - to:
    - operation:
        methods: [GET]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: try, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{from: [{source: {notPrincipals: ["*"]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: bar}
spec: {action: DENY, rules: [{}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
"""
TO = ["--from", "sleep.foo", "--to", "tcp-echo.foo"]


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, *options: str) -> tuple[int, str, str]:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    code = main(["explain", str(file), *options])
    shown = capsys.readouterr()
    return code, shown.out, shown.err.replace(f"{tmp_path}/", "")


def test_a_denial_is_explained_rule_by_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(tmp_path, capsys, FILE, *TO, "--port", "9001")
    assert code == 0
    assert text.splitlines() == [
        "denied: sleep.foo -> tcp-echo.foo:9001",
        "no ALLOW rule matches",
        "the client's identity is cluster.local/ns/foo/sa/sleep",
        "",
        "ALLOW foo/tcp-policy governs tcp-echo.foo",
        "  rule 0 does not match:",
        "    ports [9000] does not hold for port 9001",
        "  rule 1 does not match:",
        "    it is ignored on TCP, because methods exists in HTTP alone",
        "DENY foo/try (dry-run) governs tcp-echo.foo",
        "  rule 0 does not match:",
        "    notPrincipals [*] does not hold for cluster.local/ns/foo/sa/sleep",
        "DENY bar/elsewhere does not govern tcp-echo.foo: it governs namespace bar, not foo",
        "dry-run DENY would have allowed it, no rule matches",
        "left out, no policy: Service other",
    ]


def test_json_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--port", "9000", "--via", "pod", "--format", "json")
    code, text, _ = run(tmp_path, capsys, FILE, *TO, *options)
    found = json.loads(text)
    assert (code, found["verdict"], found["identity"]) == (0, "allowed", None)
    assert found["by"] == [{"namespace": "foo", "name": "tcp-policy", "rule": 0}]
    assert found["dry_run"]["deny"]["allowed"] is False
    assert found["dry_run"]["allow"] is None


CUSTOM = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask}
spec: {action: CUSTOM, provider: {name: mine}, rules: [{to: [{operation: {ports: ["9000"]}}]}]}
"""


def test_what_an_authorizer_decides_is_said_to_be_its_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = run(tmp_path, capsys, CUSTOM, *TO, "--port", "9000")
    assert code == 0
    assert text.splitlines() == [
        "undecided: sleep.foo -> tcp-echo.foo:9000",
        "CUSTOM foo/ask rule 0 matches: the answer of the external authorizer mine decides. What it denies "
        "is denied; what it admits is allowed, because no ALLOW policy governs it and no DENY rule matches",
    ]
    _, text, _ = run(tmp_path, capsys, CUSTOM, *TO, "--port", "9000", "--format", "json")
    assert json.loads(text)["verdict"] == "undecided"
    _, text, _ = run(tmp_path, capsys, CUSTOM, *TO, "--port", "9001")
    assert text.startswith("allowed: ")


def test_a_refusal_by_transport(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strict = (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        "metadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n"
    )
    _, text, _ = run(tmp_path, capsys, strict, "--from", "sleep.legacy", *TO[2:], "--port", "9000")
    assert text.splitlines() == [
        "refused: sleep.legacy -> tcp-echo.foo:9000",
        "plaintext is refused before any policy is asked: STRICT by istio-system/default (mesh)",
    ]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"9000"', '"99999"', "policy.yaml:10: AuthorizationPolicy tcp-policy is refused"),
        ("action: ALLOW", "action: MAYBE", "policy.yaml:6: AuthorizationPolicy tcp-policy is refused"),
        ('"true"', '"yes"', "policy.yaml:17: AuthorizationPolicy try is refused"),
        ("metadata:\n  name: tcp-policy", "metadata: [x]", "policy.yaml:1: a manifest needs"),
        ("rules:\n", "rules: {\n", "not YAML"),
        ("kind: AuthorizationPolicy", "kind: Scenario", "policy.yaml:1: this is a scenario"),
        ("name: tcp-policy", "name: ${nobody}", "policy.yaml:1: unknown placeholder"),
    ],
)
def test_a_bad_file_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, message: str
) -> None:
    assert before in FILE
    code, text, error = run(tmp_path, capsys, FILE.replace(before, after, 1), *TO, "--port", "9000")
    assert (code, text, error.count("\n")) == (4, "", 1)
    assert message in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "nobody.foo", *TO[2:], "--port", "9000"], "there is no workload nobody.foo"),
        (["--from", "sleep", *TO[2:], "--port", "9000"], "is not name.namespace"),
        ([*TO, "--port", "9002"], "has no port 9002"),
        (["--from", "sleep.foo", "--to", "sleep.foo", "--port", "1"], "there is no Service sleep.foo"),
    ],
)
def test_a_path_that_is_not_on_the_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, _, error = run(tmp_path, capsys, FILE, *options)
    assert code == 4
    assert message in error


def test_a_file_without_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"
    code, _, error = run(tmp_path, capsys, text, *TO, "--port", "9000")
    assert (code, "there is no AuthorizationPolicy" in error) == (4, True)
