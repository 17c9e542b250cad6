"""From evidence to verdict. Pure: no clock, no cluster, no file.

A verdict says passed only where everything that makes it believable is there. What could not be asked, or
could have another cause than the mesh, is inconclusive: neither a pass nor a fail.
"""

from __future__ import annotations

from conformance.verdict.deciders import (
    ANY,
    Decision,
    Foretold,
    judge_attribution,
    judge_audit,
    judge_counted,
    judge_dry_run,
    judge_foretold,
)
from conformance.verdict.probed import Expected, is_breach, judge, looks_right
from conformance.verdict.status import Failure, Status, Verdict, worst

__all__ = [
    "ANY",
    "Decision",
    "Expected",
    "Failure",
    "Foretold",
    "Status",
    "Verdict",
    "is_breach",
    "judge",
    "judge_attribution",
    "judge_audit",
    "judge_counted",
    "judge_dry_run",
    "judge_foretold",
    "looks_right",
    "worst",
]
