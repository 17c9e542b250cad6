"""The options that the suite adds to pytest's, and what was given, as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.campaign_options import Options
from conformance.cluster.install import MANIFESTS
from conformance.errors import InputError
from conformance.guest import read_namespaces

__all__ = ["add_options", "read_options"]


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    clusters = ["auto", "embedded", "kind", "existing"]
    group.addoption("--cluster", choices=clusters, default="auto", help="where to run (default: auto)")
    group.addoption("--kubeconfig", metavar="FILE", help="the existing cluster")
    group.addoption("--context", metavar="NAME", help="the context in the kubeconfig")
    mesh = "a second API, where policies and namespace labels are written (ASM)"
    group.addoption("--mesh-kubeconfig", metavar="FILE", help=mesh)
    group.addoption("--mesh-context", metavar="NAME", help="the context in it")
    wide = "on an existing cluster: also run what touches the mesh's root namespace"
    group.addoption("--allow-mesh-wide", action="store_true", help=wide)
    lent = "namespaces that are there already: foo=team-a,bar=team-b,legacy=team-c"
    group.addoption("--namespaces", metavar="MAP", help=lent)
    group.addoption("--profile", default="bundled", metavar="NAME|FILE", help="which mesh (default: bundled)")
    levels = ["core", "extended"]
    group.addoption("--level", choices=levels, default="extended", help="extended (default) includes core")
    group.addoption("--report-dir", default="reports", metavar="DIR", help="(default: reports)")
    known = "known deviations, besides those of the profile"
    group.addoption("--known", metavar="FILE", help=known)
    manifests = "crds/, enforcer/ and workloads/ to install (default: the suite's)"
    group.addoption("--manifests", default=str(MANIFESTS), metavar="DIR", help=manifests)
    telemetry = "switch the access log of our namespaces on, by a Telemetry resource (Istio)"
    group.addoption("--telemetry", action="store_true", help=telemetry)
    generated = "also try N generated sets of policies"
    group.addoption("--fuzz", type=int, default=0, metavar="N", help=generated)
    group.addoption("--fuzz-seed", type=int, metavar="SEED", help="the same sets again (default: new ones)")
    image = "run the workloads from this image, which needs Python 3 only; a bundled enforcer, too"
    group.addoption("--image", metavar="NAME:TAG", help=image)
    registry = "take the suite's own image from there"
    group.addoption("--image-registry", metavar="REGISTRY", help=registry)
    keep_cluster = "leave the kind cluster running"
    group.addoption("--keep-cluster", action="store_true", help=keep_cluster)
    reuse = "take a kind cluster that was kept; where there is none, keep the new one"
    group.addoption("--reuse-cluster", action="store_true", help=reuse)
    group.addoption("--keep", action="store_true", help="leave the run's namespaces on the cluster")


def read_options(config: pytest.Config) -> Options:
    kubeconfig = config.getoption("--kubeconfig")
    if config.getoption("--fuzz") < 0:
        raise InputError("--fuzz takes the number of sets to generate, 1 or more")
    mesh = config.getoption("--mesh-kubeconfig")
    given = {"-k": config.option.keyword, "-m": config.option.markexpr}
    if config.getoption("--lf", default=False):
        given["--lf"] = "yes"
    return Options(
        cluster=config.getoption("--cluster"),
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        context=config.getoption("--context"),
        mesh_kubeconfig=Path(mesh) if mesh else None,
        mesh_context=config.getoption("--mesh-context"),
        allow_mesh_wide=config.getoption("--allow-mesh-wide"),
        namespaces=read_namespaces(config.getoption("--namespaces")),
        profile=config.getoption("--profile"),
        level=config.getoption("--level"),
        known=Path(config.getoption("--known")) if config.getoption("--known") else None,
        report_dir=Path(config.getoption("--report-dir")),
        manifests=Path(config.getoption("--manifests")),
        telemetry=config.getoption("--telemetry"),
        keep=config.getoption("--keep"),
        image=config.getoption("--image"),
        image_registry=config.getoption("--image-registry"),
        keep_cluster=config.getoption("--keep-cluster"),
        reuse_cluster=config.getoption("--reuse-cluster"),
        fuzz=config.getoption("--fuzz"),
        fuzz_seed=config.getoption("--fuzz-seed"),
        allure_results=Path(folder) if (folder := config.getoption("--alluredir", default=None)) else None,
        selection=", ".join(f"{name} {value}" for name, value in given.items() if value),
    )
