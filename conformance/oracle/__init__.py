"""What the documents say must become of a connection: policies and a connection in, a reasoned decision out.

Pure and independent: nothing here is shared with any mesh under test, nor with the rest of the suite, so
that a mistake made there cannot hide here. The specification is `conformance/requirements.yaml`.
"""

from __future__ import annotations

from conformance.oracle.decide import decide
from conformance.oracle.facts import (
    Authorizer,
    Connection,
    Decision,
    Destination,
    Identity,
    Mesh,
    PolicyFinding,
    RuleFinding,
    RuleName,
    Shadow,
    Source,
    Undecided,
    Verdict,
)
from conformance.oracle.shape import Invalid
from conformance.oracle.transport import Mode, mode_for
from conformance.oracle.validate import validate

__all__ = [
    "Authorizer",
    "Connection",
    "Decision",
    "Destination",
    "Identity",
    "Invalid",
    "Mesh",
    "Mode",
    "PolicyFinding",
    "RuleFinding",
    "RuleName",
    "Shadow",
    "Source",
    "Undecided",
    "Verdict",
    "decide",
    "mode_for",
    "validate",
]
