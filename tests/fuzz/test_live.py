"""Generated policies against live meshes: a right one, and some that are wrong in one thing. Few, small."""

from pathlib import Path

import pytest

from conformance.lint import lint
from tests.fuzz.mutants import FAMILIES, hunt, rules
from tests.mutants.suite import BREACH, PROJECT, manifests_with

SETS = 40


def test_a_right_mesh_agrees_with_every_set(tmp_path: Path) -> None:
    found = hunt(PROJECT / "manifests", tmp_path, sets=SETS)
    assert found.code == 0, found.output
    generated = found.generated
    assert (generated["sets"], generated["seed"]) == (SETS, 1)
    assert (generated["disagreements"], generated["inconclusive"]) == ([], [])
    assert generated["probes"] >= SETS * 16
    assert f"make fuzz N={SETS} SEED=1" in found.output


@pytest.mark.parametrize("family", ["http-only", "scope"])
def test_a_wrong_mesh_is_found_and_shrunk_to_one_rule_at_most(family: str, tmp_path: Path) -> None:
    manifests = manifests_with(tmp_path, FAMILIES[family])
    found = hunt(manifests, tmp_path / "reports", sets=SETS)
    assert found.code == BREACH, found.output
    assert min(map(rules, found.shrunk)) <= 1, found.output
    assert "make fuzz N=40 SEED=1" in found.output
    assert found.files
    written = found.files[0].parent.parent
    assert [
        str(problem) for problem in lint(written).problems if "the same manifests" not in problem.message
    ] == []
