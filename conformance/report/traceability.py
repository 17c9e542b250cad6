"""Which requirement rests on which sentence and is shown by which cases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.report.figures import requirement_statuses

__all__ = ["Row", "Source", "source_of", "traceability"]

Line = Mapping[str, Any]
ADDRESS = re.compile(r"https?://[^\s<>\"'()]+[^\s<>\"'().,;]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`links`: only what begins with http:// or https://; `text`: the rest."""

    text: str
    links: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    requirement: Line
    source: Source
    status: str
    cases: tuple[str, ...]


def source_of(text: str) -> Source:
    links = tuple(dict.fromkeys(ADDRESS.findall(text)))
    rest = re.sub(r"\s*,?\s*$", "", ADDRESS.sub("", text).strip())
    return Source(text=rest, links=links)


def traceability(header: Line, cases: Sequence[Line]) -> dict[str, list[Row]]:
    """By group (DOC, SRC, ...), in the order of the catalogue; a requirement that the catalogue no longer
    has still has its row."""
    statuses = requirement_statuses(cases)
    citing: dict[str, list[str]] = {}
    for case in cases:
        for name in case["requirements"]:
            citing.setdefault(name, []).append(case["id"])
    known = {item["id"]: item for item in header["requirements"]}
    empty = {
        "level": "",
        "basis": "",
        "statement": "(not in the record's catalogue)",
        "source": "",
        "quotation": "",
    }
    groups: dict[str, list[Row]] = {}
    for name in [*known, *(name for name in statuses if name not in known)]:
        item = known.get(name) or {"id": name, **empty}
        row = Row(
            requirement=item,
            source=source_of(item["source"]),
            status=statuses.get(name, "skipped"),
            cases=tuple(citing.get(name, ())),
        )
        groups.setdefault(name.rpartition("-")[0] or name, []).append(row)
    return groups
