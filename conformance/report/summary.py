"""summary.md: a run in Markdown, for a CI step summary or a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.report.figures import count_statuses, enforce_times, percentile, requirement_statuses
from conformance.report.result import SCOPE, level_results, reproduce, result_of

__all__ = ["markdown_text", "summary_markdown"]

Line = Mapping[str, Any]
SIGNS = {"passed": "✅", "failed": "❌", "inconclusive": "❓", "skipped": "⏭️"}
MOST = 20  # failures listed; a comment has a size limit


def markdown_text(text: str) -> str:
    """Plain text in one line that Markdown and HTML take literally."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~@&$])", r"\\\1", flat).replace("\\<", "&lt;").replace("\\>", "&gt;")


def summary_markdown(lines: Sequence[Line], fingerprint: str) -> str:
    header, cases, footer = lines[0], lines[1:-1], lines[-1]
    result = result_of(lines)
    mesh = f"{header['implementation']['name']} {header['implementation']['version']}".strip()
    tested = f"{mesh}, profile {header['profile']['name']}, cluster {header['cluster']['kind']}"
    text = [
        f"### {SIGNS.get(result.tone, '❓')} AuthorizationPolicy on TCP: {result.word}",
        "",
        f"{markdown_text(result.headline)}. {markdown_text(tested)}, {footer['duration_ms'] / 1000:.0f} s.",
        "",
        "| | result | passed | failed | inconclusive | skipped | unsupported | known deviation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = ("passed", "failed", "inconclusive", "skipped", "unsupported", "known-deviation")
    for level in level_results(cases):
        if level.total:
            shown = " | ".join(str(level.counts[name]) for name in names)
            text.append(f"| {level.level} | {level.result} | {shown} |")
    requirements = count_statuses(requirement_statuses(cases).values())
    text.append(f"| requirements | | {' | '.join(str(requirements[name]) for name in names)} |")
    times = enforce_times(cases)
    if times:
        text += [
            "",
            f"Time to enforce: p50 {percentile(times, 0.5):.0f} ms, p95 {percentile(times, 0.95):.0f} ms.",
        ]
    telling = [case for status in ("failed", "inconclusive") for case in cases if case["status"] == status]
    if telling:
        text += ["", "| case | what |", "|---|---|"]
        text += [
            f"| {markdown_text(case['id'])} | {case['status']}: "
            f"{markdown_text(' '.join(filter(None, (case['failure'], case['reason']))))[:300]} |"
            for case in telling[:MOST]
        ]
        if len(telling) > MOST:
            text.append(f"\n{len(telling) - MOST} more in the report.")
    if header["selection"]:
        text += ["", "Only a selection ran: this says nothing about the whole level."]
    text += [
        "",
        f"<sub>{SCOPE} Again: <code>{_code(reproduce(header))}</code>. Record SHA-256 {fingerprint}.</sub>",
    ]
    return "\n".join(text) + "\n"


def _code(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
