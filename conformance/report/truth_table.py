"""Clients by ports: what was expected of each path, and what was seen, in one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.report.figures import GRAVITY
from conformance.report.oracle_view import NOT_ASKED, Said, path_of
from conformance.scenario import VIA

__all__ = ["Cell", "PathRow", "Table", "looks", "path_rows", "truth_table"]

Line = Mapping[str, Any]
WORDS = {
    "answered": "answered",
    "closed": "closed (FIN)",
    "reset": "reset (RST)",
    "refused": "refused",
    "timed_out": "timed out",
    "banner": "only a banner",
    "unknown": "could not ask",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRow:
    """Consecutive rounds of one path with the same result. `number`: of the row in its case, from 0.
    `rounds`: (round, milliseconds, nonce)."""

    number: int
    source: str
    target: str
    port: int
    via: str
    expected: str
    by: str
    observed: str
    described: str
    seen_in: str
    mesh: tuple[str, ...]
    oracle: Said
    status: str
    failure: str
    reason: str
    rounds: tuple[tuple[int, float | None, str], ...]

    @property
    def path(self) -> str:
        return f"{self.source} → {self.target}:{self.port}{VIA.get(self.via, '')}"

    @property
    def look(self) -> str:
        """The sign of a cell: what happened as it must is open or shut, anything else is a status."""
        if self.status != "passed":
            return self.status
        return "open" if self.expected == "succeeded" else "shut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`row`: the telling one of the path's; `mixed`: it has others."""

    row: PathRow
    mixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`columns`: (service, port, via); `lines`: a client and its cells, None where it was not asked."""

    columns: tuple[tuple[str, int, str], ...]
    lines: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def _without_nonce(probe: Line) -> str:
    return (
        str(probe.get("described") or "").replace(f" {probe['nonce']}", "").replace(str(probe["nonce"]), "…")
    )


def _testimony(probe: Line) -> str:
    said = probe.get("testimony")
    if not said:
        return "not asked"
    if said["seen_in"]:
        return ", ".join(said["seen_in"])
    return "no workload" if said["complete"] else f"not known: {said['why']}"


def _same(probe: Line) -> tuple[Any, ...]:
    fields = (probe["expected"], probe.get("by"), probe.get("status"), probe.get("failure"))
    return (*fields, _without_nonce(probe), _testimony(probe))


def _row(group: Sequence[Line], number: int, oracle: Said) -> PathRow:
    probe = group[0]
    mesh = dict.fromkeys(entry["described"] for one in group for entry in one.get("attribution") or ())
    status = str(probe.get("status") or "inconclusive")
    return PathRow(
        number=number,
        source=probe["from"],
        target=probe["to"],
        port=probe["port"],
        via=probe["via"],
        expected=probe["expected"],
        by=probe.get("by") or "",
        observed=WORDS.get(probe["observed"]["kind"], probe["observed"]["kind"]),
        described=_without_nonce(probe),
        seen_in=_testimony(probe),
        mesh=tuple(mesh),
        oracle=oracle,
        status=status,
        failure=probe.get("failure") or "",
        reason="" if status == "passed" else probe.get("reason") or "",
        rounds=tuple((one["round"], one["observed"].get("end_ms"), one["nonce"]) for one in group),
    )


def path_rows(
    probes: Sequence[Line], first: int, oracle: Mapping[tuple[Any, ...], Said] | None = None
) -> list[PathRow]:
    """Every probe, path by path; rounds that went alike share a row. `first`: the number of the first row;
    `oracle`: what it says of this step's paths."""
    paths: dict[tuple[Any, ...], list[Line]] = {}
    for probe in probes:
        paths.setdefault(path_of(probe), []).append(probe)
    rows: list[PathRow] = []
    for path, found in paths.items():
        said = (oracle or {}).get(path, NOT_ASKED)
        group: list[Line] = []
        for probe in sorted(found, key=lambda one: int(one["round"])):
            if group and _same(probe) != _same(group[0]):
                rows.append(_row(group, first + len(rows), said))
                group = []
            group.append(probe)
        rows.append(_row(group, first + len(rows), said))
    return rows


def _gravity(row: PathRow) -> int:
    return GRAVITY.index(row.status) if row.status in GRAVITY else 0


def truth_table(rows: Sequence[PathRow]) -> Table:
    """Clients in the order asked, services and ports sorted. A path's cell is its worst row."""
    columns = sorted({(row.target, row.port, row.via) for row in rows})
    cells: dict[tuple[str, tuple[str, int, str]], Cell] = {}
    for row in rows:
        place = (row.source, (row.target, row.port, row.via))
        known = cells.get(place)
        worse = row if known is None or _gravity(row) < _gravity(known.row) else known.row
        cells[place] = Cell(row=worse, mixed=known is not None)
    clients = dict.fromkeys(row.source for row in rows)
    lines = tuple((client, tuple(cells.get((client, column)) for column in columns)) for client in clients)
    return Table(columns=tuple(columns), lines=lines)


def looks(table: Table) -> list[PathRow]:
    """The telling row of each cell, for the run's heat map."""
    return [cell.row for _, cells in table.lines for cell in cells if cell is not None]
