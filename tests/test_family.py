"""A family is one file with a table; each row is a scenario, and a mistake is found where it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.lint import lint
from conformance.reading import Problems
from conformance.scenario import Scenario
from conformance.scenario_reader import load_file

FAMILY = """\
kind: ScenarioFamily
title: A rule on port ${row.port} admits port ${row.port} alone
requirements: [PORT-02]
level: extended
rows:
- id: first
  values: {port: 9000, open: [9000], closed: [9001], by: {policy: allow, rule: 0}, action: ALLOW}
- id: second
  requirements: [DOC-02]
  features: [dry-run]
  values:
    port: 9001
    open: [9001]
    closed: [9000]
    by: null
    action: ALLOW
steps:
- apply: all
  expect:
  - from: sleep.foo
    to: tcp-echo.foo
    ports: ${row.open}
    outcome: succeeded
    by: ${row.by}
  - {from: sleep.foo, to: tcp-echo.foo, ports: "${row.closed}", outcome: rejected}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow}
spec:
  action: ${row.action}
  rules: [{to: [{operation: {ports: ["${row.port}"]}}]}]
"""


def read(root: Path, text: str) -> tuple[tuple[Scenario, ...], list[str]]:
    file = root / "group" / "name.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    problems = Problems()
    scenarios = load_file(file, root, problems)
    return scenarios, [f"{problem.line}: {problem.message}" for problem in problems.found]


def test_each_row_is_a_scenario(tmp_path: Path) -> None:
    scenarios, problems = read(tmp_path, FAMILY)
    assert problems == []
    first, second = scenarios
    assert (first.id, second.id) == ("group/name[first]", "group/name[second]")
    assert (first.group, first.line, second.line) == ("group", 6, 8)
    assert first.title == "A rule on port 9000 admits port 9000 alone"
    assert (first.requirements, second.requirements) == (("PORT-02",), ("PORT-02", "DOC-02"))
    assert (first.features, second.features) == ((), ("dry-run",))
    # Quoted, a number is a text, as a manifest's port must be; a list stays a list.
    assert second.documents[0].body["spec"]["rules"] == [{"to": [{"operation": {"ports": ["9001"]}}]}]
    assert [item.ports for item in second.steps[0].expect] == [(9001,), (9000,)]
    assert first.steps[0].expect[0].by is not None
    assert second.steps[0].expect[0].by is None


def test_a_family_passes_the_lint_row_by_row(tmp_path: Path) -> None:
    read(tmp_path, FAMILY)
    assert list(lint(tmp_path).problems) == []
    read(tmp_path, FAMILY.replace("closed: [9000]", "closed: [9003]"))
    assert list(lint(tmp_path).problems) == []
    read(tmp_path, FAMILY.replace("open: [9001]", "open: [9003]"))
    messages = [problem.message for problem in lint(tmp_path).problems]
    assert len(messages) == 1
    assert messages[0].endswith("[group/name[second]]")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("- id: second", "- id: first", "8: the row 'first' stands twice"),
        ("- id: second", "- id: The Second", "8: the id 'The Second' must be lower-case"),
        ("- id: second\n", "- name: second\n", "8: unknown key 'name'"),
        ("    action: ALLOW", "    x: ALLOW", "31: the row has no value 'action'"),
        ("action: ALLOW}", "action: ALLOW, more: 1}", "7: nothing uses ${row.more}"),
        ("    port: 9001", "    port: [9001]", "2: ${row.port} stands inside a text"),
        ("    open: [9001]", "    open: [9005]", "has no port 9005"),
        ("    open: [9001]", "    open: x", "'ports' must be a list of port numbers"),
        ("requirements: [PORT-02]", "requirement: [PORT-02]", "3: unknown key 'requirement'"),
        ("apply: all", "apply: [nobody]", "18: no manifest in this file is named 'nobody'"),
        ("values: {port", "values: [port", "not YAML"),
        ("ScenarioFamily", "Scenarios", "1: the first document must be `kind: Scenario` or"),
    ],
)
def test_a_mistake_has_its_line(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in FAMILY
    scenarios, problems = read(tmp_path, FAMILY.replace(before, after, 1))
    assert scenarios == ()
    assert any(message in text for text in problems), problems
    assert len(problems) == len(set(problems))


def test_a_family_has_rows(tmp_path: Path) -> None:
    text = FAMILY[: FAMILY.index("rows:")] + FAMILY[FAMILY.index("steps:") :]
    _, problems = read(tmp_path, text)
    assert "1: 'rows' must be a list of at least one row" in problems


def test_a_plain_scenario_has_no_row(tmp_path: Path) -> None:
    start, end = FAMILY.index("rows:"), FAMILY.index("steps:")
    text = FAMILY.replace("ScenarioFamily", "Scenario").replace(FAMILY[start:end], "")
    _, problems = read(tmp_path, text)
    assert "2: unknown placeholder ${row.port}" in problems
