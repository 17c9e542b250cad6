"""Where the walkthrough is typed: which API its kubectl speaks to, which manifests it finds, in which
namespace, and why it cannot be typed on some clusters that are not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import yaml

from conformance.campaign import Campaign
from conformance.cluster.images import Image
from conformance.cluster.install import MANIFESTS, read_manifests
from conformance.profile import Profile

__all__ = ["choose_kubeconfig", "choose_namespace", "label_command", "place_manifests", "why_left_out"]

LABELS = {"istio-injection": "enabled"}  # what the document puts on its namespace
# Of kubectl, beyond what the suite itself asks for: manifests/rbac/walkthrough.yaml grants it.
NEEDS = ("patch namespaces", "watch namespaces", "watch deployments.apps")
NEEDS_BUNDLED = ("watch authorizationpolicies.security.istio.io",)
Type = Callable[[str], tuple[str, int]]  # a command -> what it printed, exit code


def why_left_out(campaign: Campaign, type_: Type, *, bundled: bool) -> str:
    """Why it is not typed on this cluster; empty = it can be."""
    options, profile = campaign.options, campaign.profile
    if not campaign.guest:
        return ""
    if options.namespaces:
        return "the walkthrough makes a namespace, and --namespaces says which there are"
    if options.mesh_kubeconfig:
        return "the walkthrough's kubectl speaks to one API, and policies are written at another"
    if why := _other_labels(profile):
        return why
    needs = NEEDS + (NEEDS_BUNDLED if bundled else ())
    missing = [need for need in needs if type_(f"kubectl auth can-i --quiet {need} --all-namespaces")[1]]
    if missing:
        return f"these credentials may not {', '.join(missing)}: manifests/rbac/walkthrough.yaml"
    return ""


def _other_labels(profile: Profile) -> str:
    if dict(profile.injection_labels) == LABELS:
        return ""
    theirs = ", ".join(f"{name}={value}" for name, value in profile.injection_labels.items())
    return f"the walkthrough labels its namespace istio-injection=enabled, and this mesh goes by {theirs}"


def choose_namespace(campaign: Campaign, unique: str) -> str:
    """Elsewhere it carries the run's id, as everything of a run does."""
    return f"authz-conf-{campaign.run}-walkthrough" if campaign.guest else f"walkthrough-{unique}"


def label_command(campaign: Campaign, namespace: str) -> str:
    """By these labels `conformance cleanup` finds what a killed run left."""
    labels = " ".join(f"{name}={value}" for name, value in campaign.bounds.labels.items())
    return f"kubectl label namespace {namespace} {labels}"


def choose_kubeconfig(kubeconfig: Path, context: str | None, directory: Path) -> str:
    """The variable KUBECONFIG. kubectl merges the files that it names, the first one wins: no credentials are
    copied to choose a context."""
    if not context:
        return str(kubeconfig)
    first = directory / "context.yaml"
    first.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": context}))
    return os.pathsep.join((str(first), str(kubeconfig)))


def place_manifests(image: Image, directory: Path) -> Path:
    """`directory` with manifests/workloads that name the image given instead of ours."""
    room = directory / "manifests" / "workloads"
    room.mkdir(parents=True)
    for file in (MANIFESTS / "workloads").glob("*.yaml"):
        documents = [*image.documents(), *map(image.adapt, read_manifests([file]))]
        (room / file.name).write_text(yaml.safe_dump_all([dict(body) for body in documents], sort_keys=False))
    return directory
