"""The house rules find what they are there for, and the scenarios here keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.lint import lint

CATALOGUE = """\
- {id: DOC-02, group: DOC, level: core, basis: documented, statement: so, source: page}
- {id: DOC-99, group: DOC, level: core, basis: documented, statement: never tested, source: page}
"""
CASE = """\
kind: Scenario
title: An ALLOW rule admits one port
requirements: [DOC-02]
level: core
steps:
- apply: all
  expect:
  - {from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded}
  - {from: sleep.foo, to: tcp-echo.foo, ports: [9001], outcome: rejected}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {action: ALLOW, rules: [{to: [{operation: {ports: ["9000"]}}]}]}
"""


def messages(root: Path, *cases: str) -> list[str]:
    (root / "requirements.yaml").write_text(CATALOGUE)
    (root / "scenarios" / "group").mkdir(parents=True)
    for number, case in enumerate(cases):
        (root / "scenarios" / "group" / f"{number}.yaml").write_text(case)
    report = lint(root / "scenarios", root / "requirements.yaml")
    return [f"{problem.line}: {problem.message}" for problem in report.problems]


def test_a_good_case(tmp_path: Path) -> None:
    assert messages(tmp_path, CASE) == []


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("DOC-02", "DOC-03", "unknown requirement DOC-03"),
        ("An ALLOW rule admits", "An ALLOW rule should admit", "'should' does not belong there"),
        ("An ALLOW rule admits one port", "Ports", "one statement of several words"),
        ("outcome: rejected", "outcome: succeeded", "something must be rejected"),
        ("level: core\n", "level: core\none_sided: why not\n", "has both sides"),
        ("[9001]", "[9001, 9000]", "9: sleep.foo -> tcp-echo.foo:9000 stands twice in this step"),
        ("{action: ALLOW", "{action: ALLOW, x: off", "14: off is a boolean to some readers of YAML"),
        ("{action: ALLOW", "{action: ALLOW, x: y", "14: y is a boolean to some readers of YAML"),
        ("ports: [9001]", "ports: [9005]", "9: tcp-echo.foo has no port 9005"),
        ("level: core", "level: extended", "DOC-02 is a core requirement"),
        ("---\n", "- delete: [p]\n---\n", "10: nobody looks at what `delete p` does"),
        (
            "outcome: rejected",
            "outcome: rejected, by: {policy: q}",
            "9: no manifest in this file is named 'q'",
        ),
        (
            "outcome: succeeded}",
            "outcome: succeeded, audited: {policy: q}}",
            "8: no manifest in this file is named 'q'",
        ),
        (
            "outcome: succeeded}",
            "outcome: succeeded, dry_run: {policy: q}}",
            "8: no manifest in this file is named 'q'",
        ),
        (
            "ports: [9001], outcome: rejected}",
            "ports: [9001], outcome: rejected, by: none}\n"
            "  - {from: sleep.foo, to: tcp-echo.foo, ports: [9001], via: pod, outcome: rejected,"
            " by: {policy: p}}",
            "10: sleep.foo -> tcp-echo.foo:9001 stands here with another `by`",
        ),
        ("ports: [9000], outcome: succeeded", "ports: [9000], outcome: rejected", "the oracle disagrees"),
        (
            "ports: [9001], outcome",
            "ports: [9001], via: pod6, outcome",
            "`via: pod6` needs the feature ipv6",
        ),
        (
            "rules: [{to:",
            'rules: [{from: [{source: {ipBlocks: ["${ip6:sleep.foo}"]}}], to:',
            "${ip6:...} needs the feature ipv6",
        ),
    ],
)
def test_a_bad_case(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in CASE
    found = messages(tmp_path, CASE.replace(before, after))
    assert any(message in text for text in found), found


def test_a_manifest_that_nobody_applies(tmp_path: Path) -> None:
    second = CASE.partition("---\n")[2].replace("name: p", "name: q")
    found = messages(tmp_path, CASE.replace("apply: all", "apply: [p]") + f"---\n{second}")
    assert found == ["16: no step applies AuthorizationPolicy/q"]


def test_problems_name_files_as_the_reader_of_the_terminal_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    messages(tmp_path, CASE.replace("{action: ALLOW", "{action: ALLOW, x: off"))
    report = lint(tmp_path / "scenarios", tmp_path / "requirements.yaml")
    assert str(report.problems[0]).startswith("scenarios/group/0.yaml:14: off is a boolean")


def test_quoted_texts_are_no_booleans(tmp_path: Path) -> None:
    assert messages(tmp_path, CASE.replace("{action: ALLOW", "{action: ALLOW, x: 'off', y2: \"y\"")) == []


def test_the_same_case_twice(tmp_path: Path) -> None:
    found = messages(tmp_path, CASE, CASE)
    assert found == ["1: the same manifests and steps as group/0", "1: the same title as group/0"]


def test_a_file_out_of_place(tmp_path: Path) -> None:
    (tmp_path / "scenarios" / "group" / "deeper").mkdir(parents=True)
    (tmp_path / "scenarios" / "lost.yaml").write_text(CASE)
    (tmp_path / "scenarios" / "group" / "deeper" / "lost.yaml").write_text(CASE)
    (tmp_path / "requirements.yaml").write_text(CATALOGUE)
    report = lint(tmp_path / "scenarios", tmp_path / "requirements.yaml")
    assert len([problem for problem in report.problems if "is not found" in problem.message]) == 2


def test_what_nobody_tests_is_listed(tmp_path: Path) -> None:
    (tmp_path / "scenarios" / "group").mkdir(parents=True)
    (tmp_path / "scenarios" / "group" / "a.yaml").write_text(CASE)
    (tmp_path / "requirements.yaml").write_text(CATALOGUE)
    report = lint(tmp_path / "scenarios", tmp_path / "requirements.yaml")
    assert [item.id for item in report.uncovered] == ["DOC-99"]


def test_the_scenarios_here_keep_the_rules() -> None:
    report = lint()
    assert [str(problem) for problem in report.problems] == []
    assert [item.id for item in report.uncovered] == []
