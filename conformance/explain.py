"""What a file of policies says about one connection of the stage, and why: the oracle, made readable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.family import FAMILY
from conformance.foresight import connect, pod_address, pod_address6, resolve
from conformance.oracle import (
    Decision,
    Invalid,
    Mesh,
    PolicyFinding,
    RuleName,
    Shadow,
    Undecided,
    Verdict,
    decide,
    validate,
)
from conformance.reading import Node, Problems, read_documents
from conformance.scenario import VIA
from conformance.topology import WORKLOADS, Names, Ref, Service, Workload, find_service

__all__ = ["Explanation", "Question", "as_json", "as_text", "explain"]

KINDS = ("AuthorizationPolicy", "PeerAuthentication")
UNDECIDED = "undecided"
STEP = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    source: Ref
    target: Ref
    port: int
    via: str = "service"

    def __str__(self) -> str:
        by_pod = VIA[self.via]
        return f"{self.source} -> {self.target}:{self.port}{by_pod}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    question: Question
    decision: Decision | None  # None: it hangs on what nobody here knows
    undecided: str
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]  # documents that are no policies


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainNames(Names):
    """In a file of one's own the namespaces are called what they are called."""

    def real(self, namespace: str) -> str:
        return namespace

    def head(self, namespace: str) -> str:
        return namespace[:-1]

    def tail(self, namespace: str) -> str:
        return namespace[1:]


def explain(file: Path, question: Question, mesh: Mesh) -> Explanation:
    """Raises InputError, with file:line where the file is at fault."""
    workload, port, service = _path(question)
    names = PlainNames(run="run", worker="", root=mesh.root_namespace)
    documents: dict[tuple[str, str, str], dict[str, Any]] = {}
    warnings: list[str] = []
    left_out: list[str] = []
    for node in _read(file):
        body = _body(node, names)
        label = f"{body['kind']} {body['metadata']['name']}"
        if body["kind"] not in KINDS:
            left_out.append(label)
            continue
        try:
            warnings += [f"{label}: {text}" for text in validate(body).warnings]
        except Invalid as error:
            raise InputError(f"{node.file}:{_line(node, error.path)}: {label} is refused: {error}") from None
        # Of two with one name the later is the one in force.
        documents[(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])] = body
    if not documents:
        raise InputError(f"{file}:1: there is no {' or '.join(KINDS)} in this file")
    connection = connect(
        question.source,
        workload,
        port,
        service=service,
        service_port=question.port,
        names=names,
        address=pod_address6 if question.via == "pod6" else pod_address,
    )
    decision, undecided = None, ""
    try:
        decision = decide(list(documents.values()), connection, mesh)
    except Undecided as error:
        undecided = str(error)
    return Explanation(
        question=question,
        decision=decision,
        undecided=undecided,
        warnings=tuple(warnings),
        left_out=tuple(left_out),
    )


def _path(question: Question) -> tuple[Workload, int, Service | None]:
    """The workload behind the target, its port and the Service in between. Raises InputError."""
    if question.source not in WORKLOADS:
        known = ", ".join(map(str, sorted(WORKLOADS)))
        raise InputError(f"there is no workload {question.source}", hint=f"there are: {known}")
    if question.via == "service":
        found = find_service(question.target)
        if found is None:
            raise InputError(f"there is no Service {question.target}", hint="--via pod dials a workload")
        service, workload = found
        if question.port not in service.ports:
            known = ", ".join(map(str, service.ports))
            raise InputError(
                f"the Service {question.target} has no port {question.port}, only {known}",
                hint="--via pod reaches every port of the workload",
            )
        return workload, service.ports[question.port], service
    if question.target not in WORKLOADS:
        raise InputError(f"there is no workload {question.target}")
    return WORKLOADS[question.target], question.port, None


def _read(file: Path) -> list[Node]:
    problems = Problems()
    nodes = read_documents(file, problems)
    if problems.found:
        raise InputError(str(problems.found[0]))
    return nodes


def _body(node: Node, names: Names) -> dict[str, Any]:
    value = node.value
    if isinstance(value, dict) and value.get("kind") in ("Scenario", FAMILY):
        raise InputError(f"{node.file}:{node.line}: this is a scenario: give its manifests a file")
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not value.get("kind"):
        raise InputError(f"{node.file}:{node.line}: a manifest needs kind and metadata.name")
    try:
        body: dict[str, Any] = resolve({**value, "metadata": {"namespace": "foo", **metadata}}, names)
    except (KeyError, ValueError) as error:
        raise InputError(f"{node.file}:{node.line}: unknown placeholder: {error.args[0]}") from None
    return body


def _line(node: Node, path: str) -> int:
    """The line of the last step of `spec.rules[0].to` that is there."""
    annotation = re.fullmatch(r"(metadata\.annotations)\[(.*)\]", path)
    steps = [*annotation[1].split("."), annotation[2]] if annotation else STEP.findall(path)
    for step in steps:
        items = node.items()
        below = items[int(step)] if step.isdigit() and int(step) < len(items) else node.child(step)
        if below is None:
            break
        node = below
    return node.line


def as_text(explanation: Explanation) -> str:
    decision = explanation.decision
    if decision is None:
        lines = [f"{UNDECIDED}: {explanation.question}", explanation.undecided]
    else:
        lines = _decision_text(explanation.question, decision)
    lines += [f"warning: {text}" for text in explanation.warnings]
    lines += [f"left out, no policy: {text}" for text in explanation.left_out]
    return "\n".join(lines)


def _decision_text(question: Question, decision: Decision) -> list[str]:
    lines = [f"{decision.verdict.value}: {question}", decision.why]
    if decision.verdict is not Verdict.REFUSED and decision.policies:
        who = decision.peer.principal if decision.peer else "unknown: plaintext carries no identity"
        lines += [f"the client's identity is {who}", ""]
        for policy in decision.policies:
            lines += _policy_text(policy, question.target)
    for action, shadow in (("ALLOW", decision.dry_run_allow), ("DENY", decision.dry_run_deny)):
        if shadow:
            lines.append(f"dry-run {action} {_shadow_text(shadow)}")
    if decision.audited:
        lines.append(f"AUDIT notes it: {_names(decision.audited)}")
    return lines


def _policy_text(policy: PolicyFinding, target: Ref) -> list[str]:
    dry_run = " (dry-run)" if policy.dry_run else ""
    head = f"{policy.action} {policy.namespace}/{policy.name}{dry_run}"
    if not policy.governs:
        return [f"{head} does not govern {target}: {policy.why}"]
    lines = [f"{head} governs {target}{': ' + policy.why if policy.why else ''}"]
    for rule in policy.rules:
        verb = "matches" if rule.matches else "does not match"
        lines.append(f"  rule {rule.index} {verb}:")
        lines += [f"    {reason}" for reason in rule.reasons]
    return lines


def _shadow_text(shadow: Shadow) -> str:
    verb = "would have allowed" if shadow.allowed else "would have denied"
    by = f" by {_names(shadow.matching)}" if shadow.matching else ", no rule matches"
    unseen = "" if shadow.visible else " (not shown by the proxy: CUSTOM or DENY ends the connection first)"
    return f"{verb} it{by}{unseen}"


def _names(rules: Sequence[RuleName]) -> str:
    return ", ".join(map(str, rules))


def as_json(explanation: Explanation) -> dict[str, Any]:
    decision, question = explanation.decision, explanation.question
    asked = {
        "from": str(question.source),
        "to": str(question.target),
        "port": question.port,
        "via": question.via,
    }
    notes = {"warnings": list(explanation.warnings), "left_out": list(explanation.left_out)}
    if decision is None:
        return {**asked, "verdict": UNDECIDED, "why": explanation.undecided, **notes}
    return {
        **asked,
        "verdict": decision.verdict.value,
        "why": decision.why,
        "by": [asdict(rule) for rule in decision.matching],
        "identity": decision.peer.principal if decision.peer else None,
        "policies": [asdict(policy) for policy in decision.policies],
        "audited": [asdict(rule) for rule in decision.audited],
        "dry_run": {
            "allow": asdict(decision.dry_run_allow) if decision.dry_run_allow else None,
            "deny": asdict(decision.dry_run_deny) if decision.dry_run_deny else None,
        },
        **notes,
    }
