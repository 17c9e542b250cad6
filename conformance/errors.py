"""Everything this package raises on purpose, in one tree.

A misbehaving mesh is never an exception: it is a verdict (see `verdict`). An exception means that we
could not ask.
"""

from __future__ import annotations

__all__ = ["ConformanceError", "InputError", "ProbeError", "SetupError", "Unproven"]


class ConformanceError(Exception):
    """Base of the tree. `hint`, where there is one, says what the reader can do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(ConformanceError):
    """What the user gave (an option, a profile, a scenario file) cannot be used. Exit code 4."""


class SetupError(ConformanceError):
    """The cluster, the enforcer or the workloads did not come up. Exit code 4."""


class Unproven(ConformanceError):
    """Something needed for a verdict is missing, so the case is inconclusive, whatever was observed."""


class ProbeError(Unproven):
    """A prober could not be started or went away; never a verdict about the mesh."""
