"""A probe of a pod that was born inside a case is judged by both ends; doubt is inconclusive."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conformance import evidence
from conformance.evidence import Kind, Observation, Outcome
from conformance.newcomers import NAME, Asked
from conformance.verdict import Failure, Status

RIG: Any = SimpleNamespace(profile=SimpleNamespace(denials=(Kind.CLOSED, Kind.RESET)))
HEARD = evidence.Testimony(seen_in=(NAME,), complete=True)
UNHEARD = evidence.Testimony(seen_in=(), complete=True)
UNKNOWN = evidence.Testimony(seen_in=(), complete=False, why="no marker")


@pytest.mark.parametrize(
    ("kind", "testimony", "outcome", "alive", "status", "failure"),
    [
        (Kind.ANSWERED, HEARD, Outcome.SUCCEEDED, True, Status.PASSED, None),
        (Kind.CLOSED, UNHEARD, Outcome.REJECTED, True, Status.PASSED, None),
        (Kind.ANSWERED, HEARD, Outcome.REJECTED, True, Status.FAILED, Failure.EXPOSURE),
        (Kind.CLOSED, HEARD, Outcome.REJECTED, True, Status.FAILED, Failure.DELIVERED),
        (Kind.ANSWERED, UNHEARD, Outcome.SUCCEEDED, True, Status.FAILED, Failure.WRONG_BACKEND),
        (Kind.CLOSED, UNHEARD, Outcome.SUCCEEDED, True, Status.FAILED, Failure.OVER_BLOCKING),
        (Kind.CLOSED, UNKNOWN, Outcome.REJECTED, True, Status.INCONCLUSIVE, None),
        (Kind.CLOSED, UNHEARD, Outcome.REJECTED, False, Status.INCONCLUSIVE, None),
        (Kind.UNKNOWN, UNHEARD, Outcome.REJECTED, True, Status.INCONCLUSIVE, None),
    ],
)
def test_both_ends_are_heard(
    kind: Kind,
    testimony: evidence.Testimony,
    outcome: Outcome,
    alive: bool,
    status: Status,
    failure: Failure | None,
) -> None:
    seen = Observation(kind=kind, received="hello" if kind is Kind.ANSWERED else "", why="gone")
    asked = Asked(line="port 9000 n1", seen=seen, testimony=testimony, alive=alive)
    verdict = asked.verdict(RIG, outcome)
    assert (verdict.status, verdict.failure) == (status, failure), verdict.reason
