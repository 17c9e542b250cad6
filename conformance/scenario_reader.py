"""Scenario files in, scenarios out; every mistake becomes a problem with file:line.

A file is registered by being there: `scenarios/<group>/<name>.yaml` is the scenario `group/name`.
"""

from __future__ import annotations

import re
from pathlib import Path

from conformance.family import FAMILY, Row, expand
from conformance.reading import Node, Problem, Problems, read_documents
from conformance.scenario import FEATURES, Document, Level, Scenario
from conformance.step_reader import read_step
from conformance.topology import WORKLOADS, Ref, find_service

__all__ = ["SCENARIOS", "load_file", "load_scenarios", "shown"]

SCENARIOS = Path(__file__).parent / "scenarios"
CASE_KEYS = {"kind", "title", "requirements", "level", "features", "steps", "one_sided"}
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
        steps=tuple(read_step(node, parsed) for node in step_nodes),
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
