"""What a check is given and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conformance.cluster.kube import Kube
from conformance.errors import SetupError
from conformance.profile import Profile
from conformance.topology import Names

__all__ = ["Check", "Ground", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`said`: what was found; `remedy`: what to do where it is not right."""

    name: str
    ok: bool
    said: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is asked about: a cluster, a mesh on it, and the namespaces of the run."""

    kube: Kube
    profile: Profile
    names: Names
    lent: frozenset[str]  # real names of namespaces that were there before
    manifests: Path


def fail(checks: Iterable[Check]) -> None:
    """Raises SetupError with one line for each check that did not hold."""
    lines = [f"{check.name}: {check.said} ({check.remedy})" for check in checks if not check.ok]
    if lines:
        raise SetupError("\n".join(f"preflight: {line}" for line in lines))
