"""Generated policies against live meshes: a right one, and one that is wrong in one thing. Few, small; the
other families are in mutants.py."""

from pathlib import Path

from conformance.lint import lint
from tests.fuzz.mutants import FAMILIES, hunt, rules
from tests.mutants.suite import BREACH, PROJECT, manifests_with

SETS, FEW = 40, 16


def test_a_right_mesh_agrees_with_every_set(tmp_path: Path) -> None:
    found = hunt(PROJECT / "manifests", tmp_path, sets=SETS)
    assert found.code == 0, found.output
    generated = found.generated
    assert (generated["sets"], generated["seed"]) == (SETS, 1)
    assert (generated["disagreements"], generated["inconclusive"]) == ([], [])
    assert generated["probes"] >= SETS * 8
    assert f"make fuzz N={SETS} SEED=1" in found.output


def test_a_wrong_mesh_is_found_and_shrunk_to_one_rule_at_most(tmp_path: Path) -> None:
    manifests = manifests_with(tmp_path, FAMILIES["dry-run"])
    found = hunt(manifests, tmp_path / "reports", sets=FEW)
    assert found.code == BREACH, found.output
    assert min(map(rules, found.shrunk)) <= 1, found.output
    assert f"make fuzz N={FEW} SEED=1" in found.output
    assert found.files
    written = found.files[0].parent.parent
    assert [
        str(problem) for problem in lint(written).problems if "the same manifests" not in problem.message
    ] == []
