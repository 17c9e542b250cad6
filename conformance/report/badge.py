"""badge.svg: the result in one line, for a README or a dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from conformance.report.figures import count_statuses
from conformance.report.result import Result

__all__ = ["badge_svg"]

Line = Mapping[str, Any]
WORDS = {"conformant": "#0b6b3a", "partial": "#8a5a00", "not conformant": "#a81b14"}


def badge_svg(cases: Sequence[Line], result: Result) -> str:
    """conformant, partial or not conformant, and how many of the cases passed. Inconclusive is partial:
    what was asked holds, and something could not be asked. Only for a result that claims a level."""
    word = result.word if result.word in WORDS else "partial"
    left = "AuthorizationPolicy on TCP"
    right = f"{word} {count_statuses(case['status'] for case in cases)['passed']}/{len(cases)}"
    first, second = 8 + len(left) * 6.4, 12 + len(right) * 6.4
    label = escape(f"{left}: {right}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{first + second:.0f}" height="20" role="img" '
        f'aria-label="{label}"><title>{label}</title>'
        f'<rect width="{first:.0f}" height="20" fill="#3d4651"/>'
        f'<rect x="{first:.0f}" width="{second:.0f}" height="20" fill="{WORDS[word]}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{first / 2:.0f}" y="14">{escape(left)}</text>'
        f'<text x="{first + second / 2:.0f}" y="14">{escape(right)}</text></g></svg>\n'
    )
