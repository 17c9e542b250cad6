"""A pytest plugin (`-p tests.broken_suite`) that breaks the suite itself in the middle of a run.

FAULT=raise: a case raises what nobody expects. FAULT=kill: the process that runs the case is killed.
FAULT=walkthrough: the typed walkthrough fails. FAULT_CASE is the case's id.
"""

from __future__ import annotations

import os
import signal

import pytest

import conformance.campaign
from conformance.notes import CaseResult
from conformance.rig import Rig
from conformance.run import run_case
from conformance.scenario import Scenario


def _faulty(scenario: Scenario, rig: Rig) -> CaseResult:
    if scenario.id == os.environ.get("FAULT_CASE"):
        if os.environ["FAULT"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("a defect of the suite")
    return run_case(scenario, rig)


conformance.campaign.run_case = _faulty  # type: ignore[attr-defined]  # the seam


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if os.environ["FAULT"] == "walkthrough" and item.name == "test_walkthrough":
            item.obj = lambda: pytest.fail("typed in vain")  # type: ignore[attr-defined]  # a function's item
            item.fixturenames.clear()  # type: ignore[attr-defined]  # as above
