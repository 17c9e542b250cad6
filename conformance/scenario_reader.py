"""Scenario files in, scenarios out; every mistake becomes a problem with file:line.

A file is registered by being there: `scenarios/<group>/<name>.yaml` is the scenario `group/name`.
"""

from __future__ import annotations

import re
from pathlib import Path

from conformance.evidence import Outcome
from conformance.family import FAMILY, Row, expand
from conformance.reading import Node, Problem, Problems, read_documents
from conformance.scenario import (
    FEATURES,
    VIA,
    By,
    Change,
    ChangeKind,
    Document,
    DryRun,
    Expectation,
    Level,
    Reading,
    Refusal,
    Relabel,
    Scenario,
    Step,
)
from conformance.topology import WORKLOADS, Ref, find_service

__all__ = ["SCENARIOS", "load_file", "load_scenarios", "shown"]

SCENARIOS = Path(__file__).parent / "scenarios"
CASE_KEYS = {"kind", "title", "requirements", "level", "features", "steps", "one_sided"}
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
PLACEHOLDER = re.compile(r"(?<!\$)\$\{([^}]*)\}")
PLACEHOLDER_FORMS = re.compile(
    r"(foo|bar|legacy)(:head|:tail)?|root|run|(ip6?|clusterip):(?P<ref>[a-z0-9-]+\.(foo|bar|legacy))"
)


def load_scenarios(root: Path = SCENARIOS, *, problems: Problems | None = None) -> tuple[Scenario, ...]:
    """All scenarios below `root`, sorted by id. With `problems` given, broken files are noted there and
    left out; without, the first call that finds any raises InputError with all of them."""
    own = Problems() if problems is None else problems
    loaded = [scenario for file in sorted(root.glob("*/*.yaml")) for scenario in load_file(file, root, own)]
    if problems is None:
        own.raise_any()
    return tuple(loaded)


def load_file(file: Path, root: Path, problems: Problems) -> tuple[Scenario, ...]:
    """The scenarios of one file: one, or one for each row of a family; none where anything is wrong."""
    before = len(problems.found)
    documents = read_documents(file, problems, shown_as=shown(file))
    if len(problems.found) > before:
        return ()
    if not documents:
        problems.found.append(Problem(file=shown(file), line=1, message="the file is empty"))
        return ()
    case, *manifests = documents
    name = f"{file.parent.relative_to(root).as_posix()}/{file.stem}"
    kind = case.value.get("kind") if isinstance(case.value, dict) else None
    if kind not in ("Scenario", FAMILY):
        case.problem(f"the first document must be `kind: Scenario` or `kind: {FAMILY}`")
        return ()
    if kind == FAMILY:
        rows = expand(case, manifests) if case.only_keys({*CASE_KEYS, "rows"}) else []
        loaded = [] if len(problems.found) > before else [_scenario(row, name, file) for row in rows]
    else:
        alone = Row(documents=tuple(documents), line=case.line)
        loaded = [_scenario(alone, name, file)]
    # What is wrong in the case itself was found once for each row.
    problems.found[before:] = dict.fromkeys(problems.found[before:])
    return () if len(problems.found) > before else tuple(loaded)


def _scenario(row: Row, name: str, file: Path) -> Scenario:
    case, *manifests = row.documents
    case.only_keys(CASE_KEYS)
    parsed = tuple(document for document in _number(manifests) if document is not None)
    for node in (case, *manifests):
        _check_placeholders(node)
    features = tuple(dict.fromkeys((*case.texts("features"), *row.features)))
    for feature in features:
        if feature not in FEATURES:
            case.problem(f"unknown feature {feature!r}; known: {', '.join(FEATURES)}", key="features")
    steps_node = case.child("steps")
    step_nodes = steps_node.items() if steps_node else []
    if not step_nodes:
        case.problem("'steps' must be a list of at least one step", key="steps")
    return Scenario(
        id=f"{name}[{row.id}]" if row.id else name,
        file=shown(file),
        title=case.text("title"),
        requirements=tuple(dict.fromkeys((*case.texts("requirements"), *row.requirements))),
        level=Level(case.choice("level", tuple(level.value for level in Level))),
        features=features,
        steps=tuple(_step(node, parsed) for node in step_nodes),
        documents=parsed,
        one_sided=row.one_sided or case.text("one_sided", default=""),
        line=row.line,
    )


def shown(file: Path) -> Path:
    """As problems name it: relative to the current directory where it is below it."""
    try:
        return file.resolve().relative_to(Path.cwd())
    except ValueError:
        return file


def _number(manifests: list[Node]) -> list[Document | None]:
    seen: dict[tuple[str, str], int] = {}
    found: list[Document | None] = []
    for node in manifests:
        value = node.value
        metadata = value.get("metadata") if isinstance(value, dict) else None
        if not isinstance(metadata, dict) or not isinstance(value.get("kind"), str):
            node.problem("a manifest needs kind and metadata.name")
            found.append(None)
            continue
        name = metadata.get("name")
        if not isinstance(name, str) or not isinstance(value.get("apiVersion"), str):
            node.problem("a manifest needs apiVersion and metadata.name")
            found.append(None)
            continue
        key = (value["kind"], name)
        seen[key] = seen.get(key, 0) + 1
        found.append(Document(kind=value["kind"], name=name, number=seen[key], body=value, line=node.line))
    return found


def _check_placeholders(node: Node) -> None:
    for scalar in node.scalars():
        for text in PLACEHOLDER.findall(scalar.value):
            match = PLACEHOLDER_FORMS.fullmatch(text)
            known = match and (match["ref"] is None or _known_ref(match["ref"], text))
            if not known:
                message = f"unknown placeholder ${{{text}}}"
                line = scalar.start_mark.line + 1
                node.problems.found.append(Problem(file=node.file, line=line, message=message))


def _known_ref(text: str, placeholder: str) -> bool:
    ref = Ref.parse(text)
    return bool(find_service(ref)) if placeholder.startswith("clusterip:") else ref in WORKLOADS


def _step(node: Node, documents: tuple[Document, ...]) -> Step:
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
