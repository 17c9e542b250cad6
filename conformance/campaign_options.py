"""What a run is asked for, and the names that it and the suite have."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from conformance.cluster.install import MANIFESTS

__all__ = ["Options", "new_run_id", "suite_version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As given on the command line. Paths may be relative to the current directory."""

    cluster: str = "auto"
    kubeconfig: Path | None = None
    context: str | None = None
    mesh_kubeconfig: Path | None = None
    mesh_context: str | None = None
    allow_mesh_wide: bool = False
    namespaces: Mapping[str, str] = field(default_factory=dict)  # lent ones, real names by logical ones
    profile: str = "bundled"
    level: str = "extended"
    known: Path | None = None
    report_dir: Path = Path("reports")
    manifests: Path = MANIFESTS
    keep: bool = False
    image: str | None = None
    image_registry: str | None = None
    keep_cluster: bool = False
    reuse_cluster: bool = False
    telemetry: bool = False
    selection: str = ""
    allure_results: Path | None = None  # a second place for them, that of --alluredir
    fuzz: int = 0  # sets of policies to generate
    fuzz_seed: int | None = None


def new_run_id() -> str:
    """Short, because it becomes a part of namespace names, and sortable by time down to the second."""
    return f"{datetime.now(UTC):%m%d%H%M%S}{secrets.token_hex(1)}"


def suite_version() -> str:
    try:
        return version("authz-conformance")
    except PackageNotFoundError:
        return "0.1.0"  # run from a checkout, not installed
