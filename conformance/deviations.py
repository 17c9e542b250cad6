"""Known deviations: what somebody answers for, why, and until when.

A list stands in a profile (`known_deviations`) or in a file of its own (`--known FILE`): either a list, or a
mapping of profile names to lists, of which only the running profile's counts.

    - scenario: doc/02-allow-port-9000    # or requirement: DOC-02
      reason: the data plane ignores the port list until its release 2.4
      link: https://tracker.example/1234
      approved_by: jane@example.org
      expires: 2027-03-31                 # its last day

Listed and failing is a known deviation; listed and passing, or past its day, is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from conformance.errors import InputError
from conformance.reading import Node, Problem, Problems, read_documents
from conformance.scenario import Scenario
from conformance.verdict import Failure, Status

__all__ = [
    "KnownDeviation",
    "check_deviations",
    "deviate",
    "first_version",
    "load_known",
    "read_deviations",
    "stale",
]

Line = dict[str, Any]
TEXTS = ("reason", "link", "approved_by")
PLACEHOLDER = "FILL IN"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDeviation:
    """Of one case or of every case that cites a requirement; the other of the two is empty."""

    case: str = ""
    requirement: str = ""
    reason: str
    link: str
    approver: str
    expires: str  # YYYY-MM-DD
    file: Path = Path()
    line: int = 0

    @property
    def subject(self) -> str:
        return self.case or self.requirement

    def expired(self, today: date) -> bool:
        return date.fromisoformat(self.expires) < today

    def as_line(self) -> Line:
        """As it stands in the record."""
        names = ("case", "requirement", "reason", "link", "approver", "expires", "line")
        return {name: getattr(self, name) for name in names} | {"file": self.file.as_posix()}


def load_known(file: Path, profile: str) -> tuple[KnownDeviation, ...]:
    """The list of a file that counts for a profile. Raises InputError with every problem as file:line."""
    problems = Problems()
    documents = read_documents(file, problems)
    problems.raise_any()
    if len(documents) != 1:
        raise InputError(f"{file}:1: a list of known deviations is one YAML document; `[]` is an empty one")
    root = documents[0]
    found: dict[str, tuple[KnownDeviation, ...]] = {}
    if isinstance(root.value, dict):
        for name in root.value:
            child = root.child(str(name))
            if child is not None:
                found[str(name)] = read_deviations(child)
    else:
        found[profile] = read_deviations(root)
    problems.raise_any()
    return found.get(profile, ())


def read_deviations(node: Node | None) -> tuple[KnownDeviation, ...]:
    """The entries of a list; what is wrong with it is left in the node's problems."""
    if node is None:
        return ()
    if not isinstance(node.value, list):
        node.problem("known deviations must be a list")
    found = [_deviation(item) for item in node.items()]
    return tuple(item for item in found if item is not None)


def _deviation(node: Node) -> KnownDeviation | None:
    if not node.only_keys({"scenario", "requirement", *TEXTS, "expires"}):
        return None
    case, requirement = node.text("scenario", default=""), node.text("requirement", default="")
    if bool(case) is bool(requirement):
        node.problem("a known deviation names either a 'scenario' or a 'requirement'")
    texts = {name: node.text(name) for name in TEXTS}
    for name, text in texts.items():
        if text.strip().upper() == PLACEHOLDER:
            node.problem(f"{name!r} still says {PLACEHOLDER}: nobody has read this entry", key=name)
    child = node.child("expires")
    expires = str(child.value) if child and type(child.value) in (str, date) else ""
    try:
        date.fromisoformat(expires)
    except ValueError:
        node.problem("'expires' must be a day, YYYY-MM-DD: the last on which this counts", key="expires")
    return KnownDeviation(
        case=case,
        requirement=requirement,
        reason=texts["reason"],
        link=texts["link"],
        approver=texts["approved_by"],
        expires=expires,
        file=node.file,
        line=node.line,
    )


def check_deviations(known: Sequence[KnownDeviation], cases: Iterable[Scenario]) -> None:
    """Raises InputError for entries that nothing would ever review: of no case, or listed twice."""
    every = list(cases)
    ids = {case.id for case in every}
    cited = {name for case in every for name in case.requirements}
    problems = Problems()
    seen: set[str] = set()
    for entry in known:
        wrong = ""
        if entry.case and entry.case not in ids:
            wrong = f"there is no scenario {entry.case!r}; see `python -m conformance list`"
        elif entry.requirement and entry.requirement not in cited:
            wrong = f"no scenario cites a requirement {entry.requirement!r}"
        elif entry.subject in seen:
            wrong = f"{entry.subject!r} stands twice in the known deviations"
        seen.add(entry.subject)
        if wrong:
            problems.found.append(Problem(file=entry.file, line=entry.line, message=wrong))
    problems.raise_any()


def deviate(line: Line, known: Sequence[KnownDeviation], today: date) -> Line:
    """The line after the known deviations: a failure that is answered for is no failure, one that is gone or
    past its day is. An entry for the case comes before one for a requirement."""
    mine = [entry for entry in known if entry.case == line["id"]]
    mine += [entry for entry in known if entry.requirement in line["requirements"]]
    if not mine:
        return line
    entry = next((each for each in mine if not each.expired(today)), mine[0])
    expired = entry.expired(today)
    # A requirement may be broken in some of its cases only: `stale` judges it when all have run.
    fixed = line["status"] == Status.PASSED.value and bool(entry.case)
    if line["status"] == Status.FAILED.value and not expired:
        return {**line, "known_deviation": entry.as_line(), "status": Status.KNOWN_DEVIATION.value}
    if line["status"] == Status.FAILED.value or fixed:
        why = f"it expired on {entry.expires}" if expired else "the case passes"
        reason = f"the known deviation must be taken off the list: {why}; {line['reason']}"
        failed = {"status": Status.FAILED.value, "failure": Failure.DEVIATION.value, "reason": reason}
        return {**line, "known_deviation": entry.as_line(), **failed}
    return {**line, "known_deviation": entry.as_line()} if entry.case else line


def stale(
    lines: Sequence[Line],
    known: Sequence[KnownDeviation],
    cases: Mapping[str, Scenario],
    today: date,
) -> list[Line]:
    """Entries for requirements that must be taken off the list, each with `why`. `cases`: all of the suite;
    nothing is said of a requirement unless every one of its cases has run."""
    status = {line["id"]: line["status"] for line in lines}
    found = []
    for entry in known:
        if not entry.requirement:
            continue
        citing = [name for name, case in cases.items() if entry.requirement in case.requirements]
        told = {status.get(name, "") for name in citing} - {Status.UNSUPPORTED.value}
        if entry.expired(today) and told & {Status.PASSED.value, Status.FAILED.value}:
            found.append(entry.as_line() | {"why": f"it expired on {entry.expires}"})
        elif told == {Status.PASSED.value}:
            found.append(entry.as_line() | {"why": f"every case of {entry.requirement} passes"})
    return found


def first_version(lines: Sequence[Line]) -> str:
    """YAML for the failed cases of a record, to be read and filled in: as it is, it is refused."""
    profile = lines[0]["profile"]["name"]
    failed = [
        line
        for line in lines
        if line["line"] == "case"
        and line["status"] == Status.FAILED.value
        and line["failure"] != Failure.DEVIATION.value
    ]
    text = [
        f"# Known deviations of the profile {profile}: the failed cases of run {lines[0]['run']}.",
        f"# Somebody must answer for each: while an entry says {PLACEHOLDER}, the file is refused.",
        f"{json.dumps(profile)}:" + ("" if failed else " []"),
    ]
    for line in failed:
        seen = " ".join(f"{line['failure']}: {line['reason']}".split())
        text += [
            f"- scenario: {json.dumps(line['id'])}",
            f"  # {', '.join(line['requirements'])}; seen: {seen}",
            *(f"  {name}: {PLACEHOLDER}" for name in (*TEXTS, "expires")),
        ]
    return "\n".join(text)
