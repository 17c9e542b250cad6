"""A set written out is a scenario: it can be read, and the lint finds nothing wrong with it."""

from pathlib import Path

import pytest

from conformance.fuzz.cases import TABLE, PolicySet
from conformance.fuzz.grammar import draw_sets
from conformance.fuzz.writeout import write_scenario
from conformance.lint import lint
from conformance.scenario import FEATURES
from conformance.scenario_reader import load_scenarios


def test_what_is_written_out_passes_the_lint(tmp_path: Path) -> None:
    drawn = draw_sets(11, 30, frozenset(FEATURES))
    for number, one in enumerate(drawn):
        write_scenario(one, tmp_path, seed=11, number=number, why=["a reason: with a colon\nand two lines"])
    report = lint(tmp_path)
    assert [str(problem) for problem in report.problems if "the same manifests" not in problem.message] == []
    assert report.scenarios == len(drawn)


def test_it_says_what_becomes_of_every_connection(tmp_path: Path) -> None:
    rule = {"to": [{"operation": {"ports": ["9000"]}}]}
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p0", "namespace": "${foo}"},
        "spec": {"rules": [rule]},
    }
    file = write_scenario(PolicySet(documents=(document,)), tmp_path, seed=1, number=2)
    assert file == tmp_path / "generated" / "seed-1-set-2.yaml"
    [scenario] = load_scenarios(tmp_path)
    [step] = scenario.steps
    told = {
        (str(item.source), item.workload_port(port)): item.outcome.value
        for item in step.expect
        for port in item.ports
    }
    assert told == {
        (str(row.source), row.workload_port): "succeeded" if row.workload_port == 9000 else "rejected"
        for row in TABLE
    }
    assert scenario.requirements == ("ORDER-01", "ORDER-03", "PORT-02")


@pytest.mark.parametrize(
    ("namespace", "features"), [("${foo}", ("mtls",)), ("${root}", ("mtls", "mesh-wide"))]
)
def test_it_names_the_features_that_it_needs(tmp_path: Path, namespace: str, features: tuple[str]) -> None:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p0", "namespace": namespace},
        "spec": {},
    }
    write_scenario(PolicySet(documents=(document,)), tmp_path, seed=1, number=2)
    [scenario] = load_scenarios(tmp_path)
    assert scenario.features == features
    assert scenario.mesh_wide is (namespace == "${root}")
