"""The requirement catalogue: what is promised, by whom, in whose words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.reading import Node, Problem, Problems, read_documents

__all__ = ["CATALOGUE", "Requirement", "load_catalogue"]

CATALOGUE = Path(__file__).parent / "requirements.yaml"
KEYS = {
    "id", "group", "level", "basis", "statement", "source", "quotation", "since", "verify", "implied_by",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """`level` is core, extended or observation; only a `documented` basis decides conformance."""

    id: str
    level: str
    basis: str
    statement: str
    source: str
    quotation: str = ""
    since: str = ""
    verify: bool = False
    implied_by: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The document's own words where there are any, else ours."""
        return f"“{self.quotation}” ({self.source})" if self.quotation else self.statement


def load_catalogue(file: Path = CATALOGUE, *, problems: Problems | None = None) -> Mapping[str, Requirement]:
    """By id, in the file's order. Without `problems`, raises InputError with every problem found."""
    own = Problems() if problems is None else problems
    found: dict[str, Requirement] = {}
    for document in read_documents(file, own):
        if not isinstance(document.value, list):
            document.problem("the catalogue is a list of requirements")
            continue
        for node in document.items():
            requirement = _requirement(node)
            if requirement is None:
                continue
            if requirement.id in found:
                own.found.append(
                    Problem(file=node.file, line=node.line, message=f"{requirement.id} stands twice")
                )
            found[requirement.id] = requirement
    if problems is None:
        own.raise_any()
    return found


def _requirement(node: Node) -> Requirement | None:
    if not node.only_keys(KEYS):
        return None
    basis = node.choice("basis", ("documented", "implementation"))
    return Requirement(
        id=node.text("id"),
        level=node.choice("level", ("core", "extended", "observation")),
        basis=basis,
        statement=node.text("statement").strip(),
        source=node.text("source").strip(),
        quotation=node.text("quotation", default="").strip(),
        since=node.text("since", default=""),
        verify=node.flag("verify", default=False),
        implied_by=node.texts("implied_by"),
    )
