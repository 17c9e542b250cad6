"""The one test: every scenario file is a case of it."""

from __future__ import annotations

from conformance.plugin import Conduct
from conformance.scenario import Scenario


def test_scenario(scenario: Scenario, conduct: Conduct) -> None:
    conduct(scenario)
