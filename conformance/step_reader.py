"""A step of a scenario file: its change, what the API must say to it, and what must be seen after it."""

from __future__ import annotations

from conformance.evidence import Outcome
from conformance.reading import Node
from conformance.scenario import (
    VIA,
    By,
    Change,
    ChangeKind,
    Document,
    DryRun,
    Expectation,
    Reading,
    Refusal,
    Relabel,
    Step,
)
from conformance.topology import WORKLOADS, Ref, find_service

__all__ = ["read_step"]

STEP_KEYS = {
    "apply",
    "delete",
    "label",
    "patch",
    "restart",
    "read",
    "refused",
    "warnings",
    "expect",
    "unchanged",
}
CHANGES = {"apply", "delete", "label", "patch", "restart", "read"}
EXPECTATION_KEYS = {"from", "to", "ports", "outcome", "via", "by", "dry_run", "audited", "dataplane"}


def read_step(node: Node, documents: tuple[Document, ...]) -> Step:
    """One entry of `steps`, of a file with these documents; what is wrong in it becomes problems."""
    node.only_keys(STEP_KEYS)
    value = node.value if isinstance(node.value, dict) else {}
    if len(CHANGES & value.keys()) > 1:
        node.problem(f"a step makes one change, not several: {', '.join(sorted(CHANGES & value.keys()))}")
    expectations = node.child("expect")
    nodes = expectations.items() if expectations else []
    if expectations and not nodes:
        expectations.problem("'expect' must be a list of at least one expectation")
    change = _change(node, documents)
    refused = _refusal(node)
    if refused and change.kind not in (ChangeKind.APPLY, ChangeKind.PATCH):
        node.problem("only apply and patch can be refused", key="refused")
    warnings = _warnings(node)
    if warnings is not None and change.kind not in (ChangeKind.APPLY, ChangeKind.PATCH):
        node.problem("only apply and patch can bring warnings", key="warnings")
    return Step(
        change=change,
        expect=tuple(found for child in nodes if (found := _expectation(child)) is not None),
        refused=refused,
        warnings=warnings,
        unchanged=_workloads(node.child("unchanged")),
        line=node.line,
    )


def _warnings(node: Node) -> tuple[str, ...] | None:
    child = node.child("warnings")
    if child is None:
        return None
    if child.value == "none":
        return ()
    texts = node.texts("warnings")
    if isinstance(child.value, list) and not all(texts or [""]):
        child.problem("write `warnings: none` where there must be none, or parts of their texts")
    return texts


def _refusal(node: Node) -> Refusal | None:
    child = node.child("refused")
    if child is None or not child.only_keys({"code", "message"}):
        return None
    if child.child("code") is None:
        child.problem("'code' is missing: without it any error would do")
    return Refusal(codes=child.integers("code"), message=child.text("message", default=""))


def _change(node: Node, documents: tuple[Document, ...]) -> Change:
    if child := node.child("apply"):
        return Change(kind=ChangeKind.APPLY, documents=_selectors(child, documents))
    if child := node.child("delete"):
        return Change(kind=ChangeKind.DELETE, documents=_selectors(child, documents))
    if child := node.child("label"):
        return _label(child)
    if child := node.child("patch"):
        child.only_keys({"name", "patch"})
        names = _existing(child, (child.text("name"),), documents)
        patch = child.mapping("patch")
        if not patch:
            child.problem("'patch' must change something")
        return Change(kind=ChangeKind.PATCH, documents=names, patch=patch)
    if child := node.child("restart"):
        return Change(kind=ChangeKind.RESTART, restart=_workload(child, child.value))
    if child := node.child("read"):
        child.only_keys({"name", "version", "equals"})
        name = child.text("name")
        _existing(child, (name,), documents)
        reading = Reading(document=name, version=child.text("version"), equals=child.mapping("equals"))
        return Change(kind=ChangeKind.READ, reading=reading)
    return Change(kind=ChangeKind.NONE)


def _label(child: Node) -> Change:
    child.only_keys({"workload", "set", "remove"})
    put = {str(key): str(value) for key, value in child.mapping("set").items()}
    remove = child.texts("remove")
    ref = _workload(child, child.text("workload"))
    if ref is None:
        return Change(kind=ChangeKind.NONE)
    if not put and not remove:
        child.problem("label needs `set` or `remove`")
    return Change(kind=ChangeKind.LABEL, relabel=Relabel(workload=ref, put=put, remove=remove))


def _selectors(node: Node, documents: tuple[Document, ...]) -> tuple[str, ...]:
    if node.value == "all":
        repeated = {document.name for document in documents if document.number > 1}
        if repeated:
            node.problem(f"`all` is ambiguous: {', '.join(sorted(repeated))} stands twice in this file")
        if not documents:
            node.problem("`all` of no manifest")
        return tuple(f"{document.kind}/{document.name}" for document in documents)
    names = node.value if isinstance(node.value, list) else None
    if not names or not all(isinstance(name, str) for name in names):
        node.problem("must be `all` or a list of names")
        return ()
    return _existing(node, tuple(names), documents)


def _existing(node: Node, names: tuple[str, ...], documents: tuple[Document, ...]) -> tuple[str, ...]:
    for name in names:
        matches = [document for document in documents if document.answers_to(name)]
        if not matches:
            node.problem(f"no manifest in this file is named {name!r}")
        elif len(matches) > 1:
            node.problem(f"{name!r} is ambiguous: write Kind/{name}")
    return names


def _workload(node: Node, text: object) -> Ref | None:
    ref = _ref(node, text)
    if ref is not None and ref not in WORKLOADS:
        node.problem(f"there is no workload {ref}; there are: {', '.join(map(str, sorted(WORKLOADS)))}")
        return None
    return ref


def _workloads(node: Node | None) -> tuple[Ref, ...]:
    if node is None:
        return ()
    if not node.items():
        node.problem("must be a list of workloads")
    return tuple(ref for item in node.items() if (ref := _workload(item, item.value)) is not None)


def _ref(node: Node, text: object) -> Ref | None:
    try:
        return Ref.parse(text if isinstance(text, str) else "")
    except ValueError as error:
        node.problem(str(error))
        return None


def _expectation(node: Node) -> Expectation | None:
    if not node.only_keys(EXPECTATION_KEYS):
        return None
    source = _workload(node, node.text("from"))
    target = _ref(node, node.text("to"))
    via = node.choice("via", tuple(VIA), default="service")
    ports = node.child("ports")
    numbers = ports.value if ports else None
    if not isinstance(numbers, list) or not numbers or not all(type(port) is int for port in numbers):
        node.problem("'ports' must be a list of port numbers", key="ports")
        numbers = []
    outcome = Outcome(node.choice("outcome", tuple(outcome.value for outcome in Outcome)))
    dataplane = node.child("dataplane") and node.choice("dataplane", ("sidecar", "ztunnel"))
    if source is None or target is None:
        return None
    _check_ports(node, target, tuple(numbers), via)
    return Expectation(
        source=source,
        target=target,
        ports=tuple(numbers),
        outcome=outcome,
        via=via,
        by=_by(node, "by"),
        dry_run=_dry_run(node),
        audited=_by(node, "audited"),
        dataplane=dataplane or None,
        line=node.line,
    )


def _check_ports(node: Node, target: Ref, ports: tuple[int, ...], via: str) -> None:
    if via == "service":
        found = find_service(target)
        if found is None:
            node.problem(f"there is no Service {target} (`via: pod` addresses a workload)", key="to")
            return
        known = tuple(found[0].ports)
    else:
        if target not in WORKLOADS:
            node.problem(f"there is no workload {target}", key="to")
            return
        known = WORKLOADS[target].ports
    for port in ports:
        if port not in known:
            hint = "; 9002 needs `via: pod`" if port == 9002 and via == "service" else ""
            node.problem(f"{target} has no port {port}, only {', '.join(map(str, known))}{hint}", key="ports")


def _by(node: Node, key: str) -> By | None:
    child = node.child(key)
    if child is None:
        return None
    if child.value == "none":
        return By(policy=None)
    if not child.only_keys({"policy", "namespace", "rule", "peer-authentication"}):
        return None
    if child.child("peer-authentication") is not None:
        if child.value != {"peer-authentication": True}:
            child.problem("'peer-authentication' stands alone and is true: no policy was asked")
        return By(policy=None, peer_authentication=True)
    namespace = child.text("namespace", default="foo")
    if not namespace.startswith("$"):
        namespace = f"${{{namespace}}}"
    return By(policy=child.text("policy"), namespace=namespace, rule=child.integer("rule"))


def _dry_run(node: Node) -> DryRun | None:
    child = node.child("dry_run")
    if child is None or not child.only_keys({"allow", "deny", "policy"}):
        return None
    results = ("allowed", "denied")
    if not child.value:
        child.problem("says nothing: write allow, deny or policy")
    return DryRun(
        allow=child.choice("allow", results) if child.child("allow") else None,
        deny=child.choice("deny", results) if child.child("deny") else None,
        policy=child.text("policy") if child.child("policy") else None,
    )
