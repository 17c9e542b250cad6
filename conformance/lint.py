"""House rules for scenarios and catalogue, checked without a cluster.

What makes a file unreadable is found by the readers; here is what makes a readable one wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.agreement import disagreements
from conformance.catalogue import CATALOGUE, Requirement, load_catalogue
from conformance.evidence import Outcome
from conformance.functions import FUNCTIONS, load_functions
from conformance.reading import Problem, Problems, read_documents
from conformance.sameness import fingerprint
from conformance.scenario import ChangeKind, Expectation, Scenario, Step
from conformance.scenario_reader import SCENARIOS, load_scenarios, shown

__all__ = ["Report", "lint", "uncovered"]

# Plain scalars that YAML 1.1 readers take for booleans; kubectl's takes all of these, PyYAML only some.
YAML_11_BOOLEANS = re.compile(r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF")
WEAK_TITLE = re.compile(
    r"\b(should|test that|tests that|check that|checks that|verify|verifies)\b", re.IGNORECASE
)
SMALLEST_TITLE = 3  # words


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`problems` turn the lint red; `uncovered` are requirements that no case cites."""

    problems: tuple[Problem, ...]
    uncovered: tuple[Requirement, ...]
    scenarios: int
    functions: int = 0


def lint(root: Path = SCENARIOS, catalogue: Path = CATALOGUE, functions: Path | None = None) -> Report:
    """Everything wrong, sorted by file and line. The suite's own functions go with its own scenarios."""
    problems = Problems()
    requirements = load_catalogue(catalogue, problems=problems)
    scenarios = load_scenarios(root, problems=problems)
    if functions is None and root == SCENARIOS:
        functions = FUNCTIONS
    written = load_functions(functions, problems=problems) if functions else ()
    found = [*problems.found, *misplaced(root)]
    for case in (*scenarios, *written):
        found += _unknown_requirements(case, requirements)
        found += _title(case)
    for scenario in scenarios:
        found += _polarity(scenario)
        found += _contradictions(scenario)
        found += _unproven(scenario)
        found += _idle_documents(scenario)
        found += _undeclared_ipv6(scenario)
        found += _unknown_policies(scenario)
    for file in sorted(root.glob("*/*.yaml")):
        found += _booleans(file)
    found += _same_titles([*scenarios, *written])
    found += _same_bodies(scenarios)
    found += disagreements(scenarios)
    return Report(
        problems=tuple(sorted(set(found))),
        uncovered=uncovered([*scenarios, *written], requirements),
        scenarios=len(scenarios),
        functions=len(written),
    )


def uncovered(
    scenarios: Iterable[Scenario], requirements: Mapping[str, Requirement]
) -> tuple[Requirement, ...]:
    """Requirements that no scenario cites, in the catalogue's order; those implied by others left out."""
    cited = {name for scenario in scenarios for name in scenario.requirements}
    return tuple(item for item in requirements.values() if item.id not in cited and not item.implied_by)


def _problem(scenario: Scenario, message: str, *, line: int = 0) -> Problem:
    return Problem(file=scenario.file, line=line or scenario.line, message=message)


def misplaced(root: Path) -> list[Problem]:
    """YAML files that are no scenario because of where or how they are named."""
    wrong = [*root.glob("*.yaml"), *root.glob("*/*/**/*.yaml"), *root.glob("**/*.yml")]
    message = "a scenario is scenarios/<group>/<name>.yaml; this file is not found"
    return [Problem(file=shown(file), line=1, message=message) for file in sorted(wrong)]


def _unknown_requirements(scenario: Scenario, requirements: Mapping[str, Requirement]) -> Iterable[Problem]:
    if not scenario.requirements:
        yield _problem(scenario, "a scenario cites at least one requirement")
    for name in scenario.requirements:
        if name not in requirements:
            yield _problem(scenario, f"unknown requirement {name}")
        elif requirements[name].level == "core" and scenario.level.value != "core":
            message = f"{name} is a core requirement, so the scenario's level is core"
            if not any(
                requirements[other].level != "core"
                for other in scenario.requirements
                if other in requirements
            ):
                yield _problem(scenario, message)


def _title(scenario: Scenario) -> Iterable[Problem]:
    weak = WEAK_TITLE.search(scenario.title)
    if weak:
        yield _problem(scenario, f"the title is a statement of what is; {weak[0]!r} does not belong there")
    if len(scenario.title.split()) < SMALLEST_TITLE or scenario.title.endswith("."):
        yield _problem(scenario, "the title is one statement of several words, without a full stop")


def _polarity(scenario: Scenario) -> Iterable[Problem]:
    outcomes = {item.outcome for step in scenario.steps for item in step.expect}
    both = Outcome.SUCCEEDED in outcomes and bool(outcomes - {Outcome.SUCCEEDED})
    if not both and not scenario.one_sided:
        message = "something must succeed and something must be rejected, or `one_sided` says why not"
        yield _problem(scenario, message)
    if both and scenario.one_sided:
        yield _problem(scenario, "`one_sided` on a scenario that has both sides")
    asserts = any(
        step.expect or step.refused or step.warnings is not None or step.change.kind is ChangeKind.READ
        for step in scenario.steps
    )
    if not asserts:
        yield _problem(scenario, "no step expects anything")


def _contradictions(scenario: Scenario) -> Iterable[Problem]:
    """One path twice in one step."""
    for step in scenario.steps:
        seen: set[tuple[object, ...]] = set()
        for item in step.expect:
            for port in item.ports:
                path = (item.source, item.target, item.via, port, item.dataplane)
                if path in seen:
                    message = f"{item.source} -> {item.target}:{port} stands twice in this step"
                    yield _problem(scenario, message, line=item.line)
                seen.add(path)
        yield from _told_apart(scenario, step)


def _told_apart(scenario: Scenario, step: Step) -> Iterable[Problem]:
    """Who decided is known by the client's address and the workload's port: by Service and by pod IP it is
    one path, by pod IPv6 another."""
    claims: dict[tuple[object, ...], Expectation] = {}
    for item in step.expect:
        for port in item.ports if item.by or item.dry_run or item.audited else ():
            ipv6 = item.via == "pod6"
            path = (item.source, item.workload().ref, item.workload_port(port), ipv6, item.dataplane)
            first = claims.setdefault(path, item)
            if _claim(first) != _claim(item):
                message = f"{item.source} -> {item.workload().ref}:{path[2]} stands here with another `by`"
                yield _problem(
                    scenario, f"{message}; the mesh does not tell the two ways apart", line=item.line
                )


def _claim(item: Expectation) -> tuple[object, ...]:
    return (item.outcome, item.by, item.dry_run, item.audited)


def _unproven(scenario: Scenario) -> Iterable[Problem]:
    """Changes whose effect nobody looks at: no `expect` in their step or in a later one."""
    last = max((number for number, step in enumerate(scenario.steps) if step.expect), default=-1)
    for step in scenario.steps[last + 1 :]:
        effective = step.change.kind not in (ChangeKind.NONE, ChangeKind.READ)
        if effective and step.refused is None and step.warnings is None:
            message = f"nobody looks at what `{step.change.describe()}` does: no expectation follows"
            yield _problem(scenario, message, line=step.line)


def _undeclared_ipv6(scenario: Scenario) -> Iterable[Problem]:
    """Where pods have no IPv6 address there is nothing to dial and nothing to put in: a case must say so."""
    if "ipv6" in scenario.features:
        return
    for step in scenario.steps:
        for item in step.expect:
            if item.via == "pod6":
                yield _problem(scenario, "`via: pod6` needs the feature ipv6", line=item.line)
    for document in scenario.documents:
        if "${ip6:" in str(document.body):
            yield _problem(scenario, "${ip6:...} needs the feature ipv6", line=document.line)


def _idle_documents(scenario: Scenario) -> Iterable[Problem]:
    """Manifests that no step applies."""
    applied = [
        name
        for step in scenario.steps
        if step.change.kind is ChangeKind.APPLY
        for name in step.change.documents
    ]
    for document in scenario.documents:
        if not any(document.answers_to(name) for name in applied):
            message = f"no step applies {document.kind}/{document.label}"
            yield _problem(scenario, message, line=document.line)


def _unknown_policies(scenario: Scenario) -> Iterable[Problem]:
    """Deciders that are not in the file, so that they could never decide."""
    names = {document.name for document in scenario.documents}
    for step in scenario.steps:
        for item in step.expect:
            told = (item.by, item.dry_run, item.audited)
            deciders = {each.policy for each in told if each and each.policy is not None}
            for name in sorted(deciders - names):
                yield _problem(scenario, f"no manifest in this file is named {name!r}", line=item.line)


def _booleans(file: Path) -> Iterable[Problem]:
    for node in read_documents(file, Problems(), shown_as=shown(file)):
        for scalar in node.scalars():
            if scalar.style is None and YAML_11_BOOLEANS.fullmatch(scalar.value):
                message = (
                    f"{scalar.value} is a boolean to some readers of YAML: quote it, or write true or false"
                )
                yield Problem(file=node.file, line=scalar.start_mark.line + 1, message=message)


def _same_titles(cases: Iterable[Scenario]) -> Iterable[Problem]:
    titles: dict[str, Scenario] = {}
    for case in cases:
        first = titles.setdefault(case.title, case)
        if first is not case:
            yield _problem(case, f"the same title as {first.id}")


def _same_bodies(scenarios: Iterable[Scenario]) -> Iterable[Problem]:
    bodies: dict[str, Scenario] = {}
    for scenario in scenarios:
        twin = bodies.setdefault(fingerprint(scenario), scenario)
        if twin is not scenario:
            yield _problem(scenario, f"the same manifests and steps as {twin.id}")
