"""The first line of a run's record."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict

from conformance.campaign import Campaign
from conformance.campaign_folder import display_path
from conformance.campaign_options import suite_version
from conformance.cluster.install import MANIFESTS
from conformance.cluster.kube import Kube
from conformance.preflight import Check
from conformance.profile import UNAVAILABLE
from conformance.record import Line
from conformance.stage import environment

__all__ = ["header_of"]

REQUIREMENT_FIELDS = ("id", "level", "basis", "statement", "source", "quotation")  # in the header


def header_of(
    campaign: Campaign,
    planned: Sequence[str],
    *,
    kind: str,
    description: str,
    kube: Kube | None,
    preflight: Sequence[Check],
) -> Line:
    """What was planned, with what options, on which cluster, against which mesh. `kind` and `description`: of
    the cluster; `planned`: the ids of the cases, in order."""
    profile = campaign.profile
    everything = len(planned) == len(campaign.cases)
    cited = {name for case in planned for name in campaign.cases[case].requirements}
    served = dict(kube.request("GET", "/version").body) if kube else {}
    return {
        "run": campaign.run,
        "started": time.time(),
        "suite": {"name": "authz-conformance", "version": suite_version()},
        "python": platform.python_version(),
        "profile": {"name": profile.name, "title": profile.title, "features": list(profile.features)}
        | {"unsupported": dict(profile.unsupported), "budgets": dict(profile.budgets)},
        "cluster": {
            "kind": kind,
            "description": description,
            "version": served.get("gitVersion", ""),
        },
        "implementation": {
            "name": profile.title,
            "version": suite_version() if profile.install_enforcer else "",
        },
        "level": campaign.options.level,
        "selection": "" if everything else campaign.options.selection or "selected cases",
        "options": {
            "cluster": campaign.options.cluster,
            "profile": campaign.options.profile,
            "keep": campaign.options.keep,
            "allow_mesh_wide": campaign.options.allow_mesh_wide,
            "namespaces": dict(campaign.options.namespaces),
            "known": display_path(campaign.options.known.absolute()) if campaign.options.known else "",
            "telemetry": campaign.options.telemetry,
            # Empty: the suite's own. With others, another enforcer was under test.
            "manifests": ""
            if campaign.options.manifests.resolve() == MANIFESTS.resolve()
            else display_path(campaign.options.manifests),
        },
        # In the order of preference; which one it became stands in each case.
        "attribution": list(profile.attribution) or [UNAVAILABLE],
        "timeouts": asdict(profile.deadlines),
        "rounds": profile.rounds,
        "environment": environment(kube, profile, campaign.names) if kube else [],
        "preflight": [asdict(check) for check in preflight],
        "requirements": [
            {name: getattr(item, name) for name in REQUIREMENT_FIELDS}
            for item in campaign.catalogue.values()
            if item.id in cited
        ],
        "planned": list(planned),
    }
