"""Cases that data cannot say: test functions with the marker `requirements`, found without importing them.

`@pytest.mark.requirements("LIFE-03", features=["mesh-wide"])` on a function of conformance/test_*.py makes it
a case; its docstring is the title. A case is a Scenario without steps, so that plan, lint and record treat
both kinds alike.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from conformance.reading import Problem, Problems
from conformance.scenario import FEATURES, Level, Scenario
from conformance.scenario_reader import shown

__all__ = ["FUNCTIONS", "MARKER", "function_id", "load_functions"]

FUNCTIONS = Path(__file__).parent
MARKER = "requirements"
KEYWORDS = {"features", "level"}


def function_id(file: Path, name: str) -> str:
    """`lifecycle/sidecar-restart` of test_sidecar_restart in test_lifecycle.py."""
    return f"{file.stem.removeprefix('test_')}/{name.removeprefix('test_').replace('_', '-')}"


def load_functions(root: Path = FUNCTIONS, *, problems: Problems | None = None) -> tuple[Scenario, ...]:
    """By file, in the order of the file. Without `problems`, raises InputError with every problem found."""
    own = Problems() if problems is None else problems
    found = tuple(case for file in sorted(root.glob("test_*.py")) for case in _cases(file, own))
    if problems is None:
        own.raise_any()
    return found


def _cases(file: Path, problems: Problems) -> Iterator[Scenario]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{MARKER}":
                case = _case(file, node, decorator, problems)
                if case is not None:
                    yield case


def _case(file: Path, node: ast.FunctionDef, marker: ast.Call, problems: Problems) -> Scenario | None:
    def problem(message: str) -> None:
        problems.found.append(Problem(file=shown(file), line=node.lineno, message=message))

    title = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    try:
        requirements = tuple(str(ast.literal_eval(argument)) for argument in marker.args)
        given = {str(item.arg): ast.literal_eval(item.value) for item in marker.keywords}
        level = Level(given.get("level", Level.EXTENDED.value))
        features = tuple(str(name) for name in given.get("features", ()))
    except ValueError:
        problem(f"the marker {MARKER} takes plain texts, `features` a list of them, `level` core or extended")
        return None
    if strange := sorted(given.keys() - KEYWORDS) + sorted(set(features) - set(FEATURES)):
        problem(f"the marker {MARKER} does not know {', '.join(strange)}")
        return None
    if not title:
        problem("a case's docstring is its title; there is none")
        return None
    return Scenario(
        id=function_id(file, node.name),
        file=shown(file),
        title=title,
        requirements=requirements,
        level=level,
        features=features,
        steps=(),
        documents=(),
        line=node.lineno,
    )
