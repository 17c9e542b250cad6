"""Shrinking against fakes: a mesh that is wrong about one thing leaves that thing alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from conformance.fuzz.cases import PolicySet
from conformance.fuzz.grammar import acceptable, draw_sets
from conformance.fuzz.shrink import reductions, shrink
from conformance.scenario import FEATURES

EVERYTHING = frozenset(FEATURES)
SETS = draw_sets(3, 150, EVERYTHING)


def size(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(size, value.values()))
    return 1 + sum(map(size, value)) if isinstance(value, list | tuple) else 1


def says(word: str) -> Callable[[PolicySet], bool]:
    return lambda drawn: word in str(drawn.documents)


def shrunk(drawn: PolicySet, wrong: Callable[[PolicySet], bool]) -> tuple[PolicySet, list[int]]:
    asked: list[int] = []

    def disagree(sets: Sequence[PolicySet]) -> list[bool]:
        asked.append(len(sets))
        assert len(sets) == 1 or not any(one.mesh_wide for one in sets)
        return [wrong(one) for one in sets]

    return shrink(drawn, disagree=disagree, acceptable=acceptable, at_once=4), asked


@pytest.mark.parametrize(
    "word",
    [
        "'notPorts'",
        "'principals'",
        "'ipBlocks'",
        "'methods'",
        "'istio.io/dry-run'",
        "'STRICT'",
        "'notValues'",
    ],
)
def test_what_is_wrong_is_left_and_one_rule_at_most(word: str) -> None:
    found = [one for one in SETS if says(word)(one)][:3]
    assert found
    for drawn in found:
        small, asked = shrunk(drawn, says(word))
        assert says(word)(small)
        assert acceptable(small)
        [document] = small.documents
        assert len((document["spec"] or {}).get("rules") or []) <= 1
        assert max(asked) <= 4


def test_two_documents_that_are_wrong_together_both_stay() -> None:
    def both(drawn: PolicySet) -> bool:
        return len(drawn.documents) >= 2

    drawn = next(one for one in SETS if len(one.documents) == 3 and not one.mesh_wide)
    small, _ = shrunk(drawn, both)
    assert len(small.documents) == 2


def test_what_agrees_however_it_is_cut_stays_as_it_is() -> None:
    drawn = SETS[-1]
    assert shrunk(drawn, lambda one: one == drawn)[0] == drawn


def test_every_reduction_is_smaller_or_simpler() -> None:
    for drawn in SETS[:40]:
        for smaller in reductions(drawn):
            assert smaller != drawn
            assert size(smaller.documents) <= size(drawn.documents)
