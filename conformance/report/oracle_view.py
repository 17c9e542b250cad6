"""What the oracle says of each path of a case, in a few words and with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NOT_ASKED", "Said", "oracle_said", "path_of"]

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """`told`: the outcome and why, empty where it was not asked; `reasons`: of each policy in force, rule by
    rule; `doubt`: why it could not tell, or where it differs from the scenario's expectation."""

    told: str = ""
    reasons: tuple[str, ...] = ()
    doubt: str = ""


NOT_ASKED = Said()


def path_of(line: Line) -> tuple[Any, ...]:
    """What a probe and the oracle's answer on it have in common."""
    return line["from"], line["to"], line["port"], line["via"]


def _name(policy: str) -> str:
    """Without the namespace, which is the run's own and stands in the policies as applied."""
    return policy.rpartition("/")[2]


def _rule(rule: Line, policy: Line) -> str:
    reasons = "; ".join(str(reason) for reason in rule["reasons"]) or "it asks for nothing"
    matches = "matches" if rule["matches"] else "does not match"
    return f"{_name(policy['policy'])} rule {rule['rule']} {matches}: {reasons}"


def _policy(policy: Line) -> list[str]:
    dry = " (dry run)" if policy["dry_run"] else ""
    head = f"{policy['action']} {_name(policy['policy'])}{dry}"
    if policy["why_not"]:
        return [f"{head} does not count: {policy['why_not']}"]
    return [f"{policy['action']}{dry} {_rule(rule, policy)}" for rule in policy["rules"]] or [
        f"{head} has no rule"
    ]


def _shadow(shadow: Line | None, action: str) -> list[str]:
    if not shadow:
        return []
    rules = ", ".join(f"{_name(rule['policy'])} rule {rule['rule']}" for rule in shadow["rules"])
    would = "would allow" if shadow["allowed"] else "would deny"
    return [f"dry run: the {action} policies {would}" + (f", by {rules}" if rules else "")]


def _said(lane: Line) -> Said:
    told = f"{lane['outcome']}: {lane['why']}" if lane.get("outcome") else ""
    for policy in lane.get("policies") or ():
        told = told.replace(policy["policy"], _name(policy["policy"]))
    reasons = [text for policy in lane.get("policies") or () for text in _policy(policy)]
    audited = ", ".join(f"{_name(rule['policy'])} rule {rule['rule']}" for rule in lane.get("audited") or ())
    reasons += [f"audited by {audited}"] if audited else []
    reasons += _shadow(lane.get("dry_run_allow"), "ALLOW") + _shadow(lane.get("dry_run_deny"), "DENY")
    return Said(told=told, reasons=tuple(reasons), doubt=lane.get("doubt") or "")


def oracle_said(case: Line) -> dict[int, dict[tuple[Any, ...], Said]]:
    """By step's number and path; empty where the oracle was not asked."""
    found: dict[int, dict[tuple[Any, ...], Said]] = {}
    for lane in (case.get("oracle") or {}).get("lanes") or ():
        found.setdefault(lane["step"], {})[path_of(lane)] = _said(lane)
    return found
