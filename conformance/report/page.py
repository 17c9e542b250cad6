"""index.html: the whole run as one file that needs no network, made of the record alone.

Everything is in the page itself: it can be read, printed and searched without scripts; the script filters,
shows a probe where a cell is pointed at, and opens what is closed before printing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from conformance.report.case_view import (
    DASH,
    CaseView,
    anchor_of,
    case_views,
    documents,
    many,
    milliseconds,
)
from conformance.report.compact import compact
from conformance.report.controls import Mapped
from conformance.report.distribution import budgets_kept, distribution, slowest
from conformance.report.figures import (
    SEVERITIES,
    STATUSES,
    count_statuses,
    exposure,
    grouped_findings,
    requirement_statuses,
)
from conformance.report.history import Trend
from conformance.report.result import LEVELS, SCOPE, level_results, reproduce, result_of
from conformance.report.traceability import traceability

__all__ = ["DETAILED", "environment", "index_html", "instant", "instant_iso", "page_html"]

Line = Mapping[str, Any]
TEMPLATES = Path(__file__).parent / "templates"
# More cases than this, and the probes of those that passed stay in the record: a browser must still open it.
DETAILED = 1500
SIGNS = {
    "passed": "✓",
    "failed": "✗",
    "inconclusive": "?",
    "skipped": DASH,
    "unsupported": "∅",
    "known-deviation": "≈",
}
WAYS = {
    "access-log": "by policy and rule, from the mesh's access log",
    "counters": "that RBAC denied, not by which rule, from the proxies' counters",
    "unavailable": "not at all: what denied is not known",
}


def instant(seconds: float | None) -> str:
    """A time of day as people write it, always UTC."""
    if seconds is None:
        return DASH
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def instant_iso(seconds: float) -> str:
    """RFC 3339, UTC, whole seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def duration(value: float | None) -> str:
    """Milliseconds as minutes and seconds."""
    if value is None:
        return DASH
    seconds = value / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def _marked(text: str) -> Markup:
    """Text whose `words in backticks` are code; everything is escaped first."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped


def _logical(text: str, run: str) -> str:
    """Names of objects with the namespace as the scenario calls it: foo/web of foo-<run>-uno/web."""
    return re.sub(rf"(?<![\w.-])(?<!ns/)([a-z][a-z0-9]*)-{re.escape(run)}-[a-z0-9]+(?=/)", r"\1", text)


@cache
def environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "ms": milliseconds,
        "instant": instant,
        "duration": duration,
        "anchor": anchor_of,
        "documents": documents,
        "many": many,
        "inline": lambda value: json.dumps(value, ensure_ascii=False),
        "marked": _marked,
        "logical": _logical,
        "compact": compact,
        "sentence": lambda text: text[:1].upper() + text[1:],
    }
    found.globals |= {"SIGNS": SIGNS, "STATUSES": STATUSES, "LEVELS": LEVELS, "SEVERITIES": SEVERITIES}
    return found


def _allowed(text: str) -> str:
    """The source expression that lets exactly this script or style run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page_html(template: str, context: Mapping[str, Any], *, foot: str) -> str:
    """A page with style and script inside, and a policy that allows nothing else. `foot` is printed at the
    bottom of every sheet; only letters, digits and plain punctuation of it are kept: it stands in CSS."""
    kept = "".join(sign for sign in foot if (sign.isalnum() and sign.isascii()) or sign in " .,:-()/")
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8").replace("RUNNING-FOOT", kept)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    wiring = {"style": style, "script": script, "policy": policy}
    return environment().get_template(template).render(**context, **wiring)


def _attention(views: Sequence[CaseView]) -> list[CaseView]:
    """What a reader must see first: failures, then what could not be asked."""
    order = ("failed", "inconclusive")
    found = [view for view in views if view.line["status"] in order]
    return sorted(found, key=lambda view: order.index(view.line["status"]))


def _attribution(cases: Sequence[Line]) -> list[tuple[str, int]]:
    """(in words, cases) of each way to know who decided that a case had, the best first."""
    ways = Counter(case["attribution"] for case in cases if case.get("attribution"))
    return [(told, ways[way]) for way, told in WAYS.items() if ways[way]]


def _groups(views: Sequence[CaseView]) -> dict[str, list[CaseView]]:
    found: dict[str, list[CaseView]] = {}
    for view in views:
        found.setdefault(view.group, []).append(view)
    return found


def index_html(
    lines: Sequence[Line],
    *,
    fingerprint: str,
    implementation: Mapping[str, str] | None = None,
    controls: Sequence[Mapped] = (),
    history: Trend | None = None,
    detailed: int = DETAILED,
) -> str:
    """The page. `fingerprint`: SHA-256 of the record's bytes; `implementation`: who stands for the mesh
    (organization, project, url, version, contact); `controls`: see `report.controls`; `history`: see
    `report.history`."""
    header, cases, footer = lines[0], list(lines[1:-1]), lines[-1]
    views = case_views(cases, detailed=detailed)
    result = result_of(lines)
    requirements = traceability(header, cases)
    context = {
        "header": header,
        "footer": footer,
        "result": result,
        "levels": level_results(cases),
        "counts": count_statuses(case["status"] for case in cases),
        "total": len(cases),
        "requirement_counts": count_statuses(requirement_statuses(cases).values()),
        "requirements": requirements,
        "requirement_total": sum(map(len, requirements.values())),
        "anchors": {view.line["id"]: view for view in views},
        "groups": _groups(views),
        "cases": views,
        "left_out": sum(not view.detailed for view in views),
        "attention": _attention(views),
        "plot": distribution(cases, header["profile"].get("budgets") or {}),
        "slowest": slowest(cases),
        "budgets": budgets_kept(cases, header["profile"].get("budgets") or {}),
        "exposure": exposure(cases),
        "findings": grouped_findings(cases),
        "attribution": _attribution(cases),
        "ways": WAYS,
        "deviations": [case for case in cases if case.get("known_deviation")],
        "by_status": {
            status: [view for view in views if view.line["status"] == status] for status in STATUSES
        },
        "reproduce": reproduce(header),
        "scope": SCOPE,
        "sentences": {item["id"]: item["statement"] for item in header["requirements"]},
        "fingerprint": fingerprint,
        "implementation": {name: text for name, text in (implementation or {}).items() if text},
        "controls": controls,
        "history": history,
        "probes": sum(len(step["probes"]) for case in cases for step in case["steps"]),
    }
    foot = f"Run {header['run']}  {result.word}  SHA-256 {fingerprint}"
    return page_html("index.html.j2", context, foot=foot)
