"""The sample authorizer of the feature `custom`: brought when first needed, the same all through a case.

It is no part of the mesh under test. So where it was not there, or was started anew meanwhile, a case says
nothing about the mesh. Where the mesh is not ours its owner has brought it, and nothing is known of it here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.barrier import Changes
from conformance.cluster.install import install_authorizer
from conformance.cluster.ready import is_ready
from conformance.errors import ConformanceError, SetupError
from conformance.rig import Rig
from conformance.verdict import Status

__all__ = ["FEATURE", "with_authorizer"]

FEATURE = "custom"
SELECTOR = "app=ext-authz"

# Uid of each ready pod, and how often its containers were started anew.
Processes = dict[str, int]


def with_authorizer(rig: Rig, play: Callable[[], dict[str, Any]], *, manifests: Path) -> dict[str, Any]:
    """Plays a case; its result, made inconclusive where the authorizer was not there all along."""
    if not rig.profile.install_enforcer:
        return play()
    try:
        if not rig.has_authorizer:
            _bring(rig, manifests)
        before = _processes(rig)
        if not before:
            raise SetupError("the external authorizer is not ready")
    except ConformanceError as error:
        return {"status": Status.INCONCLUSIVE.value, "reason": str(error)}
    result = play()
    try:
        after = _processes(rig)
    except ConformanceError as error:
        return _doubted(result, f"the external authorizer cannot be looked at: {error}")
    if after != before:
        return _doubted(result, "the external authorizer was not there all along, or was started anew")
    return result


def _bring(rig: Rig, manifests: Path) -> None:
    """Ready, and its Service known to the control plane. Raises SetupError."""
    written = install_authorizer(rig.kube, rig.profile, manifests=manifests)
    waited = rig.barrier.wait(Changes(written=written), pods=(), timeout=rig.profile.deadlines.barrier)
    if not waited.landed:
        raise SetupError(f"the mesh does not know of the external authorizer: {waited.detail}")
    rig.has_authorizer = True


def _processes(rig: Rig) -> Processes:
    pods, _ = rig.kube.list("v1", "Pod", namespace=rig.profile.root_namespace, selector=SELECTOR)
    return {
        pod["metadata"]["uid"]: sum(
            item.get("restartCount", 0) for item in pod["status"].get("containerStatuses") or []
        )
        for pod in pods
        if is_ready(pod)
    }


def _doubted(result: dict[str, Any], why: str) -> dict[str, Any]:
    said = f"{why}; without that: {result['status']}: {result['reason']}"
    return {**result, "status": Status.INCONCLUSIVE.value, "failure": None, "reason": said}
