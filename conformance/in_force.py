"""The oracle asked while a case runs: what must become of each lane under the documents that are in force.

In force is what the API has stored: what the case applied, and what others had on the cluster before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.agreement import BEYOND, JUDGED, compare
from conformance.errors import ConformanceError
from conformance.evidence import Outcome
from conformance.foresight import ALIAS, AUTHORIZERS, connect
from conformance.oracle import Connection, Decision, Invalid, Mesh, Undecided, decide
from conformance.rig import Rig
from conformance.steps import Hand
from conformance.sweep import Case, Lane
from conformance.topology import WORKLOADS, find_service
from conformance.verdict import Foretold

__all__ = ["Answer", "deciders", "foretell"]

API_VERSIONS = ("security.istio.io/v1", "security.istio.io/v1beta1")
Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the oracle says of one lane. `doubt`: why the expectation cannot be judged by it; empty = it can.
    `decision` and `foretold` are None where it could not tell."""

    lane: Lane
    decision: Decision | None = None
    foretold: Foretold | None = None
    doubt: str = ""
    foreign: bool = False  # whether the doubt is what others have on the cluster


def foretell(rig: Rig, hand: Hand, cases: Sequence[Case]) -> list[Answer]:
    """One answer for each case, in order; none at all where the oracle knows too little of the mesh. Never
    raises: what could not be read is a doubt."""
    if rig.profile.dataplane != "sidecar" or BEYOND & set(hand.features):
        return []
    try:
        documents = _documents(rig, cases)
    except ConformanceError as error:
        why = f"the documents in force are not known: {error.message}"
        return [Answer(lane=case.lane, doubt=why) for case in cases]
    mesh = Mesh(
        root_namespace=rig.names.root,
        trust_domain=rig.profile.trust_domain,
        aliases=(ALIAS,) if "trust-domain-alias" in rig.profile.features else (),
        authorizers=AUTHORIZERS if "custom" in rig.profile.features else {},
    )
    return [_answer(rig, hand, case, documents, mesh) for case in cases]


def _documents(rig: Rig, cases: Iterable[Case]) -> list[Body]:
    """What is stored where it may govern one of the lanes. Raises SetupError."""
    namespaces = {rig.names.root, *(rig.names.real(case.lane.workload.namespace) for case in cases)}
    found: list[Body] = []
    for kind in JUDGED:
        version = next((name for name in API_VERSIONS if rig.kube.serves(name, kind)), None)
        if version is None:
            continue
        for namespace in sorted(namespaces):
            items, _ = rig.kube.list(version, kind, namespace=namespace)
            # The items of a list do not say what they are.
            found += [{**item, "apiVersion": version, "kind": kind} for item in items]
    return found


def _answer(rig: Rig, hand: Hand, case: Case, documents: Sequence[Body], mesh: Mesh) -> Answer:
    lane, item = case.lane, case.expectation
    if item.outcome is Outcome.UNREACHABLE:
        return Answer(lane=lane)
    connection = _connection(rig, hand, lane)

    def ask(known: Sequence[Body]) -> tuple[Decision, str]:
        decision = decide(known, connection, mesh)
        said = compare(item, decision, resolve=hand.resolve, policy_name=hand.policy_name)
        return decision, "; ".join(said)

    others = [body for body in documents if not hand.made(body)]
    try:
        decision, differs = ask(documents)
        foreign = bool(differs and others and not ask([b for b in documents if hand.made(b)])[1])
    except Undecided as why:
        return Answer(lane=lane, doubt=f"the oracle cannot tell: {why}")
    except Invalid as why:
        return Answer(lane=lane, doubt=f"the API has stored what the oracle would refuse: {why}")
    if foreign:
        names = ", ".join(f"{b['kind']} {b['metadata']['namespace']}/{b['metadata']['name']}" for b in others)
        doubt = f"what others have on the cluster changes what must be: {names}; with it: {differs}"
    else:
        doubt = f"the oracle disagrees about what is in force: {differs}" if differs else ""
    return Answer(lane=lane, decision=decision, foretold=deciders(decision), doubt=doubt, foreign=foreign)


def deciders(decision: Decision) -> Foretold:
    """A decision of the oracle as verdicts are given by it."""
    return Foretold(
        outcome=decision.verdict.value,
        deciders=tuple((f"{rule.namespace}/{rule.name}", rule.rule) for rule in decision.matching),
        why=decision.why,
        custom=_by_authorizer(decision),
    )


def _by_authorizer(decision: Decision) -> bool:
    customs = {(item.namespace, item.name) for item in decision.policies if item.action == "CUSTOM"}
    return any((rule.namespace, rule.name) in customs for rule in decision.matching)


def _connection(rig: Rig, hand: Hand, lane: Lane) -> Connection:
    found = find_service(lane.target) if lane.via == "service" else None
    return connect(
        lane.source,
        WORKLOADS[lane.workload],
        lane.workload_port,
        service=found[0] if found else None,
        service_port=lane.port,
        labels=hand.labels(lane.workload),
        names=rig.names,
        address=lambda ref: rig.pods[ref].address_of(lane.via),
    )
