"""The oracle against every written expectation: each scenario is worked through without a cluster.

Scenario and oracle were written from the same documents apart from each other. Where they differ, one of
the two has misread them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from conformance.evidence import Outcome
from conformance.foresight import (
    LABELS,
    MESH,
    NAMES,
    connect,
    pod_address,
    pod_address6,
    resolve,
)
from conformance.oracle import Decision, Invalid, RuleName, Shadow, Undecided, Verdict, decide, validate
from conformance.reading import Problem
from conformance.scenario import By, Change, ChangeKind, Document, DryRun, Expectation, Scenario, Step
from conformance.topology import Ref, find_service

__all__ = ["BEYOND", "JUDGED", "compare", "disagreements", "merge_patch"]

JUDGED = ("AuthorizationPolicy", "PeerAuthentication")
# What these change is not in the oracle, so their scenarios are not foretold.
BEYOND = frozenset({"routing"})
Key = tuple[str, str, str]


def disagreements(scenarios: Iterable[Scenario]) -> list[Problem]:
    """Every step and expectation that the oracle sees differently, as file:line."""
    return [
        problem
        for scenario in scenarios
        if not BEYOND & set(scenario.features)
        for problem in _Walk(scenario).problems()
    ]


class _Walk:
    """The policies and labels in force while a scenario's steps are taken one by one."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._stored: dict[Key, dict[str, Any]] = {}
        self._created = 0
        self._labels: dict[Ref, dict[str, str]] = {ref: dict(labels) for ref, labels in LABELS.items()}

    def problems(self) -> Iterator[Problem]:
        for step in self._scenario.steps:
            for message in self._take(step):
                yield self._problem(step.line, message)
            for item in step.expect:
                if item.outcome is not Outcome.UNREACHABLE and item.dataplane in (None, "sidecar"):
                    for port in item.ports:
                        for message in self._look(item, port):
                            path = f"{item.source} -> {item.target}:{port}"
                            yield self._problem(item.line, f"{path}: {message}")

    def _problem(self, line: int, message: str) -> Problem:
        rows = f" [{self._scenario.id}]" if self._scenario.id.endswith("]") else ""
        return Problem(file=self._scenario.file, line=line, message=f"the oracle disagrees: {message}{rows}")

    def _take(self, step: Step) -> Iterator[str]:
        change = step.change
        match change.kind:
            case ChangeKind.APPLY:
                documents = [self._scenario.document(selector) for selector in change.documents]
                yield from self._write([self._body(document) for document in documents], step)
            case ChangeKind.PATCH:
                old = self._stored.get(self._key(self._scenario.document(change.documents[0])))
                if old is None:
                    yield "what is patched is not there"
                else:
                    yield from self._write([merge_patch(old, resolve(dict(change.patch or {})))], step)
            case ChangeKind.DELETE:
                for selector in change.documents:
                    self._stored.pop(self._key(self._scenario.document(selector)), None)
            case ChangeKind.LABEL | ChangeKind.RESTART:
                self._touch(change)

    def _touch(self, change: Change) -> None:
        if change.restart:
            self._labels[change.restart] = dict(LABELS[change.restart])
        if change.relabel:
            labels = self._labels[change.relabel.workload]
            labels |= {str(resolve(key)): value for key, value in change.relabel.put.items()}
            for name in change.relabel.remove:
                labels.pop(name, None)

    def _write(self, bodies: list[dict[str, Any]], step: Step) -> Iterator[str]:
        warnings: list[str] = []
        for body in bodies:
            if body["kind"] not in JUDGED:
                continue
            name = f"{body['kind']} {body['metadata']['name']}"
            try:
                warnings += validate(body).warnings
            except Invalid as why:
                if step.refused is None:
                    yield f"{name} is refused: {why}"
                continue
            if step.refused:
                yield f"{name} must be refused, and nothing is wrong with it"
                continue
            self._store(body)
        if step.warnings == () and warnings:
            yield f"there must be no warning, and there is: {'; '.join(warnings)}"
        if step.warnings and not warnings:
            yield "there is nothing to warn of"

    def _store(self, body: dict[str, Any]) -> None:
        key = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        old = self._stored.get(key)
        self._created += 1
        # An update keeps its object's age.
        age = old["metadata"]["creationTimestamp"] if old else f"{self._created:06d}"
        self._stored[key] = {**body, "metadata": {**body["metadata"], "creationTimestamp": age}}

    def _body(self, document: Document) -> dict[str, Any]:
        body: dict[str, Any] = resolve(dict(document.body))
        metadata = {"namespace": NAMES.real("foo"), **body["metadata"]}
        return {**body, "metadata": metadata}

    def _key(self, document: Document) -> Key:
        metadata = self._body(document)["metadata"]
        return (document.kind, metadata["namespace"], metadata["name"])

    def _look(self, item: Expectation, port: int) -> Iterator[str]:
        found = find_service(item.target) if item.via == "service" else None
        workload = item.workload()
        connection = connect(
            item.source,
            workload,
            item.workload_port(port),
            service=found[0] if found else None,
            service_port=port,
            labels=self._labels[workload.ref],
            address=pod_address6 if item.via == "pod6" else pod_address,
        )
        try:
            decision = decide(list(self._stored.values()), connection, MESH)
        except Undecided as why:
            yield f"it cannot tell: {why}"
            return
        yield from compare(item, decision, resolve=resolve, policy_name=self._policy_name)

    def _policy_name(self, name: str) -> str:
        # A name that is no document's is the lint's to tell.
        found = next((each for each in self._scenario.documents if each.answers_to(name)), None)
        return "/".join(self._key(found)[1:]) if found else name


def compare(
    item: Expectation,
    decision: Decision,
    *,
    resolve: Callable[[Any], Any],
    policy_name: Callable[[str], str],
) -> list[str]:
    """Where an expectation and the oracle differ about one connection. `resolve` fills placeholders in,
    `policy_name` is namespace/name of a document of the case."""
    found: list[str] = []
    expected = item.outcome is Outcome.SUCCEEDED
    if expected is not (decision.verdict is Verdict.ALLOWED):
        found.append(f"{decision.verdict.value}, because {decision.why}")
    elif item.by and not _is_by(item.by, decision, resolve):
        found.append(f"not by {item.by.describe()}: {decision.why}")
    if item.dry_run:
        found += _dry_run(item.dry_run, decision, policy_name)
    if item.audited:
        told = {(rule.namespace, rule.name) for rule in decision.audited}
        policy = item.audited.policy
        wanted = (resolve(item.audited.namespace), resolve(policy))
        if bool(told) if policy is None else wanted not in told:
            names = ", ".join(map(str, decision.audited)) or "no policy"
            found.append(f"audited by {names}, not by {policy or 'none'}")
    return found


def _is_by(by: By, decision: Decision, resolve: Callable[[Any], Any]) -> bool:
    if by.peer_authentication or decision.verdict is Verdict.REFUSED:
        return by.peer_authentication and decision.verdict is Verdict.REFUSED
    if by.policy is None:
        return not decision.matching
    wanted = (resolve(by.namespace), resolve(by.policy))
    # Which of several matching rules a proxy names is promised nowhere.
    return any(
        (rule.namespace, rule.name) == wanted and by.rule in (None, rule.rule) for rule in decision.matching
    )


def _dry_run(dry_run: DryRun, decision: Decision, policy_name: Callable[[str], str]) -> Iterator[str]:
    named: set[RuleName] = set()
    for action, wanted, shadow in (
        ("allow", dry_run.allow, decision.dry_run_allow),
        ("deny", dry_run.deny, decision.dry_run_deny),
    ):
        told = _told(shadow)
        named |= set(shadow.matching) if shadow and shadow.visible else set()
        if wanted is not None and told != wanted:
            yield f"dry-run {action} shows {told or 'nothing'}, not {wanted}"
    if dry_run.policy is not None:
        policy = policy_name(dry_run.policy)
        if not any(f"{rule.namespace}/{rule.name}" == policy for rule in named):
            yield f"dry-run does not name {dry_run.policy}"


def _told(shadow: Shadow | None) -> str:
    if shadow is None or not shadow.visible:
        return ""
    return "allowed" if shadow.allowed else "denied"


def merge_patch(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON merge patch (RFC 7386) makes of an object."""
    merged = dict(old)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge_patch(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged
