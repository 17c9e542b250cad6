"""Mutants of what the API refuses and says: the validating webhook. What the CRD promises as well is taken
out of it by `tests.mutants.table`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from enforcer import validation
from enforcer.validation import Verdict
from tests.mutants.seams import MUTANTS, around, instead, mutant

FORGOTTEN = {
    "unknown_action_admitted": r"is not one of",
    "deny_without_rules_admitted": r"without rules never matches",
    "bad_port_admitted": r"is not a port|is not a string",
    "bad_address_admitted": r"is not (a CIDR range|an IP address)",
    "empty_string_admitted": r'"" is empty',
    "empty_entry_admitted": r": is empty; name at least|is not an object",
    "bad_condition_admitted": r"known attribute|needs values|must name|must be written",
    "bad_selector_admitted": r"only one of|labels are matched exactly|empty key",
    "bad_service_account_admitted": r"service ?account|serviceAccounts",
    "bad_trust_domain_admitted": r"wildcard|a trust domain is a name",
    "bad_provider_admitted": r"spec\.provider|under action CUSTOM|external authorizer",
    "null_item_admitted": r"null is not|\.source: is empty|\.operation: is empty",
    "bad_dry_run_admitted": r"istio\.io/dry-run",
    "unknown_field_admitted": r"is not a known field",
}
"""Mutants that do not know one kind of mistake any more: what its messages have in common."""


def forget(pattern: str) -> None:
    @around(validation, "review")
    def _review(original: Any, document: Any, **more: Any) -> Verdict:
        verdict: Verdict = original(document, **more)
        return replace(
            verdict, errors=tuple(error for error in verdict.errors if not re.search(pattern, error))
        )


def forgetful(pattern: str) -> Any:
    return lambda: forget(pattern)


MUTANTS.update({name: forgetful(pattern) for name, pattern in FORGOTTEN.items()})


@mutant
def limits_unknown() -> None:
    """Nothing beyond the schema, which has lost its limits."""


@mutant
def version_of_another_content() -> None:
    """Nothing beyond the CRD, whose older version has lost a field."""


@mutant
def updates_unjudged() -> None:
    """Only new objects are judged; a bad update replaces a good policy."""

    @around(validation, "review")
    def _review(original: Any, document: Any, *, old: Any = None) -> Any:
        return Verdict() if old is not None else original(document)


@mutant
def warnings_unsaid() -> None:
    """The API warns of nothing."""
    instead(validation, "_warnings", lambda _policy: ())
