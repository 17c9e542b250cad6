"""Mutants of trial mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from enforcer import policy as policies_module
from enforcer.policy import Policy
from tests.mutants.seams import around, compile_as, instead, mutant


@mutant
def dry_run_enforced() -> None:
    """Trial mode is enforced."""
    compile_as(lambda policies: [replace(policy, dry_run=False) for policy in policies])


@mutant
def dry_run_forgotten() -> None:
    """A policy in trial mode never arrives."""
    compile_as(lambda policies: [policy for policy in policies if not policy.dry_run])


@mutant
def dry_run_suspends_the_others() -> None:
    """While one policy is in trial mode the enforced ones are not."""

    def suspend(policies: Sequence[Policy]) -> Sequence[Policy]:
        trial = [policy for policy in policies if policy.dry_run]
        return trial or policies

    compile_as(suspend)


@mutant
def dry_run_one_spelling() -> None:
    """Of the spellings of true only `true` is known; the others mean false."""
    spellings = dict.fromkeys(policies_module._BOOLEANS, False) | {"true": True}
    instead(policies_module, "_BOOLEANS", spellings)


@mutant
def dry_run_sticks() -> None:
    """A policy that was in trial mode once stays in it."""
    seen: set[str] = set()

    @around(policies_module, "_dry_run")
    def _dry_run(original: Any, metadata: Mapping[str, object], problems: Any) -> Any:
        uid = str(metadata.get("uid"))
        if original(metadata, problems):
            seen.add(uid)
        return uid in seen
