"""Whole records of every kind, for tests of the reports and for looking at pages."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from conformance.record import exit_code
from tests import lines

Line = dict[str, Any]
SAMPLE = Path(__file__).parent.parent.parent / "docs" / "sample-report" / "record.jsonl.gz"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&]]>--> {{ 7*7 }}"


def record(*cases: Line, code: int | None = None, **header: Any) -> list[Line]:
    """Header, cases, footer; the code that the cases have, unless another is given."""
    planned = [case["id"] for case in cases]
    found = exit_code(cases, planned) if code is None else code
    footer = lines.footer(found) | {"interrupted": found == 2}
    known = {"requirements": [requirement(name) for name in ("DOC-02", "RUN-01", "RUN-04")]}
    return [lines.header(*planned, **(known | header)), *cases, footer]


def requirement(name: str) -> Line:
    return {
        "id": name,
        "level": "core",
        "basis": "documented",
        "statement": f"What {name} says.",
        "source": "The page (2026-03-11), https://example.com/page?a=1&b=2",
        "quotation": "port 9001 is rejected",
    }


def write(directory: Path, content: Sequence[Line]) -> Path:
    """Writes record.jsonl; returns its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
    (directory / "record.jsonl").write_text(text, encoding="utf-8")
    return directory


def many(count: int, paths: int, rounds: int = 3) -> list[Line]:
    """`count` cases of one step, each with `paths` x `rounds` probes."""
    cases = []
    for number in range(count):
        case = lines.case(f"group{number % 17}/{number:05d}-a-case-with-a-name")
        step = case["steps"][0]
        probe = step["probes"][0]
        step["probes"] = [
            probe
            | {"from": f"sleep.{['foo', 'bar', 'legacy'][path % 3]}", "port": 9000 + path // 3}
            | {"round": round_, "nonce": f"n{number:05d}{path:03d}{round_}abcdef12"}
            for round_ in range(1, rounds + 1)
            for path in range(paths)
        ]
        cases.append(case)
    return record(*cases)


def grown(count: int, probes: int) -> list[Line]:
    """A real run, the published sample, with cases of it again until there are `count` cases and `probes`
    probes of policies."""
    packed = gzip.decompress(SAMPLE.read_bytes()).decode("utf-8")
    header, *cases, footer = map(json.loads, packed.splitlines())
    wanted = [case for case in cases if _probes(case)]
    for number, case in enumerate(islice(cycle(wanted), max(0, count - len(cases)))):
        cases.append(case | {"id": f"again/{number:05d}-{case['id'].partition('/')[2]}"})
    # What is still missing goes into further paths of the cases at the end.
    missing = probes - sum(map(_probes, cases))
    for case in reversed(cases):
        if missing <= 0:
            break
        case["steps"] = copy.deepcopy(case["steps"])
        for step in case["steps"]:
            paths = [probe | {"port": probe["port"] + 100} for probe in step["probes"]][: max(0, missing)]
            step["probes"] += paths
            missing -= len(paths)
    return [header | {"planned": [case["id"] for case in cases]}, *cases, footer]


def _probes(case: Line) -> int:
    return sum(len(step["probes"]) for step in case["steps"])


def hostile() -> list[Line]:
    """Everything that a mesh, a scenario or a log can put into a record is HTML and script."""
    case = lines.case("g/a", "failed", failure="allowed but forbidden", reason=HOSTILE)
    case = copy.deepcopy(_hostile(case))
    case |= {"id": f"g/{HOSTILE}", "status": "failed", "failure": "allowed but forbidden", "level": "core"}
    case["requirements"] = ["DOC-02", HOSTILE]
    case["steps"][0] |= {"status": "failed"}
    case["steps"][0]["probes"][0] |= {"status": "failed", "expected": "rejected", "via": "service"}
    case["findings"][0] |= {"severity": "high", "seen": HOSTILE, "why": HOSTILE, "advice": HOSTILE}
    case["known_deviation"] = dict.fromkeys(("case", "reason", "link", "approver", "expires"), HOSTILE)
    case["oracle"]["lanes"][0] |= {"via": "service", "doubt": HOSTILE}
    source = f"javascript:alert(1) https://example.com/{HOSTILE}"
    bad = requirement("DOC-02") | {"statement": HOSTILE, "source": source, "quotation": HOSTILE}
    return record(case, requirements=[bad], run=HOSTILE, selection=HOSTILE, environment=[{HOSTILE: HOSTILE}])


def _hostile(value: Any) -> Any:
    """The same shape with every text replaced; the keys stay."""
    if isinstance(value, dict):
        return {key: _hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value
