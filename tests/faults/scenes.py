"""Scenarios that run while something breaks: one expects success, one a denial, one changes its policy."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from conformance.reading import Problems
from conformance.scenario import Scenario
from conformance.scenario_reader import load_file

POLICY = """\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {rules: [{to: [{operation: {ports: ["9000"]}}]}]}
"""
HEAD = "kind: Scenario\ntitle: Something is so\nrequirements: [DOC-02]\nlevel: core\nsteps:\n"
OPEN = """\
  - {from: sleep.foo, to: tcp-echo.foo, ports: [%(open)s], outcome: succeeded, by: {policy: p, rule: 0}}
  - {from: sleep.legacy, to: tcp-echo.foo, ports: [%(open)s], outcome: succeeded, by: {policy: p, rule: 0}}
"""
SHUT = """\
  - {from: sleep.foo, to: tcp-echo.foo, ports: [%(shut)s], outcome: rejected, by: none}
  - {from: sleep.legacy, to: tcp-echo.foo, ports: [%(shut)s], outcome: rejected, by: none}
"""
FREE = "  - {from: sleep.foo, to: tcp-echo.foo, ports: [9000, 9001], outcome: succeeded}\n"
FIRST, SECOND = {"open": "9000", "shut": "9001"}, {"open": "9001", "shut": "9000"}
PATCH = '- patch: {name: p, patch: {spec: {rules: [{to: [{operation: {ports: ["9001"]}}]}]}}}\n'


class Scene(Enum):
    """The value is what the tally calls it."""

    SUCCEEDED = "expects succeeded"
    REJECTED = "expects rejected"
    CHANGE = "policy change and recovery"


STEPS: Mapping[Scene, str] = {
    Scene.SUCCEEDED: f"- apply: all\n  expect:\n{OPEN % FIRST}",
    Scene.REJECTED: f"- apply: all\n  expect:\n{SHUT % FIRST}",
    Scene.CHANGE: (
        f"- apply: all\n  expect:\n{OPEN % FIRST}{SHUT % FIRST}"
        f"{PATCH}  expect:\n{OPEN % SECOND}{SHUT % SECOND}"
        f"- delete: all\n  expect:\n{FREE}"
    ),
}


def load_scene(scene: Scene) -> Scenario:
    with tempfile.TemporaryDirectory(prefix="scene-") as name:
        root = Path(name)
        file = root / "faults" / f"{scene.name.lower()}.yaml"
        file.parent.mkdir()
        file.write_text(HEAD + STEPS[scene] + POLICY)
        problems = Problems()
        found = load_file(file, root, problems)
        problems.raise_any()
        return next(iter(found))
