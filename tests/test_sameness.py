"""Two scenarios that differ only in names and order have one fingerprint; any other difference tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.reading import Problems
from conformance.sameness import fingerprint
from conformance.scenario_reader import load_file

CASE = """\
kind: Scenario
title: Port 9000 is open
requirements: [DOC-02]
level: core
steps:
- apply: [first]
  expect:
  - {from: sleep.foo, to: tcp-echo.foo, ports: [9000, 9003], outcome: succeeded, by: {policy: first, rule: 0}}
  - {from: sleep.foo, to: tcp-echo.foo, ports: [9001], outcome: rejected, by: none}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: first}
spec: {action: ALLOW, rules: [{to: [{operation: {ports: ["9000"]}}]}]}
"""


def of(root: Path, text: str) -> str:
    file = root / "group" / "name.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    problems = Problems()
    (scenario,) = load_file(file, root, problems)
    return fingerprint(scenario)


def test_names_titles_and_order_do_not_tell_cases_apart(tmp_path: Path) -> None:
    lines = CASE.splitlines()
    turned = "\n".join([*lines[:7], lines[8], lines[7], *lines[9:]])
    other = CASE.replace("first", "second").replace("Port 9000 is open", "Another title")
    apart = CASE.replace(
        "[9000, 9003], outcome: succeeded, by: {policy: first, rule: 0}}",
        "[9003], outcome: succeeded, by: {policy: first, rule: 0}}\n"
        "  - {from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded,"
        " by: {policy: first, rule: 0}}",
    )
    swapped = CASE.replace(
        '{action: ALLOW, rules: [{to: [{operation: {ports: ["9000"]}}]}]}',
        '{rules: [{to: [{operation: {ports: ["9000"]}}]}], action: ALLOW}',
    )
    assert {of(tmp_path, text) for text in (CASE, turned, other, apart, swapped)} == {of(tmp_path, CASE)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('ports: ["9000"]', 'ports: ["9001"]'),
        ("security.istio.io/v1", "security.istio.io/v1beta1"),
        ("sleep.foo", "sleep.bar"),
        ("by: none", "by: {policy: first}"),
        ("rule: 0", "rule: 1"),
        ("[9001]", "[9001], via: pod"),
        ("- apply: [first]\n", "- apply: [first]\n  warnings: none\n"),
        ("- apply: [first]\n", "- apply: [first]\n  unchanged: [sleep.foo]\n"),
    ],
)
def test_what_is_said_tells(tmp_path: Path, before: str, after: str) -> None:
    assert before in CASE
    assert of(tmp_path, CASE.replace(before, after)) != of(tmp_path, CASE)
