"""Scenario files: what they become, and file:line for what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.errors import InputError
from conformance.evidence import Outcome
from conformance.placeholders import resolve
from conformance.reading import Problems
from conformance.scenario import By, ChangeKind, Scenario
from conformance.scenario_reader import load_file, load_scenarios
from conformance.topology import NAMESPACES, Names, Ref

GOOD = """\
kind: Scenario
title: An ALLOW rule on port 9000 admits port 9000 and nothing else
requirements: [DOC-02]
level: core
steps:
- apply: all
  warnings: none
  expect:
  - {from: sleep.foo, to: tcp-echo.foo, ports: [9000], outcome: succeeded, by: {policy: p, rule: 0}}
  - {from: sleep.bar, to: tcp-echo-alt.foo, ports: [80], outcome: rejected, by: none}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: p
spec: null
"""


def read(root: Path, text: str) -> tuple[Scenario | None, list[str]]:
    file = root / "group" / "name.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    problems = Problems()
    scenario = next(iter(load_file(file, root, problems)), None)
    return scenario, [f"{problem.line}: {problem.message}" for problem in problems.found]


def test_a_file_is_a_scenario(tmp_path: Path) -> None:
    scenario, problems = read(tmp_path, GOOD)
    assert problems == []
    assert scenario is not None
    assert (scenario.id, scenario.group) == ("group/name", "group")
    step = scenario.steps[0]
    assert (step.change.kind, step.change.documents) == (ChangeKind.APPLY, ("AuthorizationPolicy/p",))
    assert step.warnings == ()
    first, second = step.expect
    assert first.by == By(policy="p", namespace="${foo}", rule=0)
    assert (second.by, second.outcome) == (By(policy=None), Outcome.REJECTED)
    assert (second.workload().ref, second.workload_port(80)) == (Ref.parse("tcp-echo.foo"), 9000)


def test_a_null_spec_stays_null(tmp_path: Path) -> None:
    scenario, _ = read(tmp_path, GOOD)
    assert scenario is not None
    assert "spec" in scenario.documents[0].body
    assert scenario.documents[0].body["spec"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("level: core", "level: basic"), "4: 'level' must be one of core, extended, not str 'basic'"),
        (("ports: [9000]", "ports: [9002]"), "9: tcp-echo.foo has no port 9002, only 9000, 9001, 9003; "
         "9002 needs `via: pod`"),
        (("from: sleep.foo", "from: sleep.baz"), "9: 'sleep.baz' is not name.namespace with one of "
         "foo, bar, legacy"),
        (("to: tcp-echo.foo", "to: httpbin.foo"), "9: there is no Service httpbin.foo "
         "(`via: pod` addresses a workload)"),
        (("outcome: rejected", "outcome: denied"), "10: 'outcome' must be one of succeeded, rejected, "
         "unreachable, not str 'denied'"),
        (("- apply: all", "- apply: [q]"), "6: no manifest in this file is named 'q'"),
        (("warnings: none", "warning: none"), "7: unknown key 'warning'; known here: apply, delete, expect, "
         "label, patch, read, refused, restart, unchanged, warnings"),
        (("name: p\n", "name: ${fop}\n"), "15: unknown placeholder ${fop}"),
        (("  warnings: none", "  delete: all"), "6: a step makes one change, not several: apply, delete"),
        (("title:", "title: twice\ntitle:"), "3: key 'title' stands twice"),
        (("steps:", "features: [telepathy]\nsteps:"), "unknown feature 'telepathy'"),
        (("kind: Scenario", "kind: Story"), "1: the first document must be `kind: Scenario`"),
        (("level: core", "level: [core"), "5: not YAML"),
        (("warnings: none", "warnings: ['']"), "7: write `warnings: none` where there must be none"),
        (("warnings: none", "refused: {message: no}"), "7: 'code' is missing: without it any error would do"),
        (("- apply: all\n  warnings: none", "- warnings: none"), "only apply and patch can bring warnings"),
        (("- apply: all", "- patch: {name: p, patch: {}}"), "6: 'patch' must change something"),
        (("by: none", "dry_run: {}"), "10: says nothing: write allow, deny or policy"),
        (("by: none", "by: {peer-authentication: false}"), "10: 'peer-authentication' stands alone"),
        (("by: none", "by: {peer-authentication: true, rule: 0}"), "10: 'peer-authentication' stands alone"),
        (("ports: [9000]", "ports: []"), "9: 'ports' must be a list of port numbers"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    scenario, problems = read(tmp_path, GOOD.replace(*change, 1))
    assert scenario is None
    assert any(message in problem for problem in problems), problems


def test_a_refusal_by_transport_is_read(tmp_path: Path) -> None:
    scenario, problems = read(tmp_path, GOOD.replace("by: none", "by: {peer-authentication: true}"))
    assert problems == []
    assert scenario is not None
    by = scenario.steps[0].expect[1].by
    assert by == By(policy=None, peer_authentication=True)
    assert by.describe() == "PeerAuthentication"


def test_all_is_ambiguous_where_a_name_stands_twice(tmp_path: Path) -> None:
    second = GOOD.partition("---")[2]
    _, problems = read(tmp_path, f"{GOOD}---{second}")
    assert problems == ["6: `all` is ambiguous: p stands twice in this file"]
    scenario, problems = read(tmp_path, f"{GOOD}---{second}".replace("apply: all", "apply: ['p#2']"))
    assert problems == []
    assert scenario is not None
    assert scenario.document("p#2").number == 2


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text("kind: Nothing\n")
    with pytest.raises(InputError) as raised:
        load_scenarios(tmp_path)
    assert str(raised.value).count("the first document must be") == 2


def test_placeholders() -> None:
    names = Names(run="r", worker="w1", root="mesh")

    def fill(value: object) -> object:
        return resolve(
            value,
            names=names,
            pod_address=lambda ref: f"pod:{ref}",
            pod_address6=lambda ref: f"pod6:{ref}",
            service_address=lambda ref: f"svc:{ref}",
        )

    assert fill({"${foo}": ["${ip:sleep.foo}", "${clusterip:tcp-echo.bar}", 9000, None]}) == {
        "foo-rw1-uno": ["pod:sleep.foo", "svc:tcp-echo.bar", 9000, None]
    }
    assert fill("${ip6:sleep.foo}/128") == "pod6:sleep.foo/128"
    assert fill("${root}/${run} $${foo}") == "mesh/r ${foo}"


@pytest.mark.parametrize("worker", ["", "w0", "w11"])
def test_heads_and_tails_select_one_namespace_each(worker: str) -> None:
    names = Names(run="0101", worker=worker, root="mesh")
    for one in NAMESPACES:
        for other in NAMESPACES:
            assert names.real(other).startswith(names.head(one)) is (one == other)
            assert names.real(other).endswith(names.tail(one)) is (one == other)
        assert len(names.head(one)) < len(names.real(one))
        assert names.logical(names.real(one)) == one
