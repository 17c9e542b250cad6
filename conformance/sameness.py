"""What a scenario says, without how it says it: two with the same fingerprint are one written twice."""

from __future__ import annotations

import json
from typing import Any

from conformance.scenario import By, Change, DryRun, Expectation, Scenario, Step

__all__ = ["fingerprint"]


def fingerprint(scenario: Scenario) -> str:
    """Manifests and steps as a text in which object names, the order of keys and of expectations, and the
    way ports are gathered into rows are gone."""
    names: dict[tuple[str, str], int] = {}
    for document in scenario.documents:
        names.setdefault((document.kind, document.name), len(names))
    documents = []
    for document in scenario.documents:
        body = dict(document.body)
        body["metadata"] = {**body["metadata"], "name": names[(document.kind, document.name)]}
        documents.append(body)
    steps = [_step(step, scenario) for step in scenario.steps]
    return json.dumps([documents, steps], sort_keys=True, default=str)


def _number(scenario: Scenario, selector: str | None) -> int | str | None:
    """Which document of the file a selector or a policy's name means; what names none stands as it is."""
    if selector is None:
        return None
    for number, document in enumerate(scenario.documents):
        if document.answers_to(selector):
            return number
    return selector


def _step(step: Step, scenario: Scenario) -> list[Any]:
    rows = sorted(
        json.dumps(_row(item, port, scenario), default=str) for item in step.expect for port in item.ports
    )
    refused = step.refused and step.refused.codes
    unchanged = sorted(map(str, step.unchanged))
    return [_change(step.change, scenario), refused, step.warnings, unchanged, rows]


def _change(change: Change, scenario: Scenario) -> list[Any]:
    reading = change.reading and [
        _number(scenario, change.reading.document),
        change.reading.version,
        dict(change.reading.equals),
    ]
    relabel = change.relabel and [
        str(change.relabel.workload),
        dict(change.relabel.put),
        sorted(change.relabel.remove),
    ]
    documents = [_number(scenario, selector) for selector in change.documents]
    return [change.kind.value, documents, relabel, change.patch, str(change.restart), reading]


def _row(item: Expectation, port: int, scenario: Scenario) -> list[Any]:
    path = [str(item.source), str(item.target), item.via, port, item.outcome.value, item.dataplane]
    return [*path, _by(item.by, scenario), _dry_run(item.dry_run, scenario), _by(item.audited, scenario)]


def _by(by: By | None, scenario: Scenario) -> list[Any] | None:
    return None if by is None else [_number(scenario, by.policy), by.namespace, by.rule]


def _dry_run(dry_run: DryRun | None, scenario: Scenario) -> list[Any] | None:
    return None if dry_run is None else [dry_run.allow, dry_run.deny, _number(scenario, dry_run.policy)]
