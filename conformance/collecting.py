"""Which tests are cases: scenario files as parameters of one test, and functions with a marker."""

from __future__ import annotations

import pytest

from conformance.functions import MARKER, function_id
from conformance.scenario import Scenario
from conformance.state import HERE, TEST_FILE, campaign_of

__all__ = ["is_function", "scenario_of", "wants_cluster"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.path == TEST_FILE and "scenario" in metafunc.fixturenames:
        scenarios = campaign_of(metafunc.config).scenarios
        metafunc.parametrize("scenario", scenarios, ids=[scenario.id for scenario in scenarios])


def scenario_of(item: pytest.Item) -> Scenario | None:
    """The case that a test is: a scenario file, or a function with the marker `requirements`."""
    if item.path == TEST_FILE:
        callspec = getattr(item, "callspec", None)
        found = callspec.params.get("scenario") if callspec else None
        return found if isinstance(found, Scenario) else None
    return campaign_of(item.config).functions.get(_function_id(item)) if is_function(item) else None


def is_function(item: pytest.Item) -> bool:
    return item.path.parent == HERE and item.get_closest_marker(MARKER) is not None


def _function_id(item: pytest.Item) -> str:
    return function_id(item.path, item.name)


def pytest_itemcollected(item: pytest.Item) -> None:
    """A function can be selected by its case's id, as a scenario can."""
    if is_function(item):
        item.extra_keyword_matches.add(_function_id(item))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Functions that the asked level does not have."""
    beyond = [item for item in items if is_function(item) and scenario_of(item) is None]
    if beyond:
        config.hook.pytest_deselected(items=beyond)
        items[:] = [item for item in items if item not in beyond]


def wants_cluster(item: pytest.Item) -> bool:
    return item.path.parent == TEST_FILE.parent and "cluster" in getattr(item, "fixturenames", ())
