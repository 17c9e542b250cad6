"""PeerAuthentication, as far as it can be honoured without mutual TLS: whoever demands it gets nobody.

Plaintext is what a PERMISSIVE, DISABLE or unset mode admits, and all there is. STRICT refuses plaintext: the
webhook refuses to store it, and where it is stored all the same, its workloads are closed and the reason
shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enforcer.policy import Action, Policy

KIND = "PeerAuthentication"
STRICT = "STRICT"


def demands(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Every place that demands mutual TLS, one sentence each; none = nothing to refuse."""
    spec = document.get("spec") or {}
    places = {"spec.mtls.mode": _mode(spec.get("mtls"))}
    ports = spec.get("portLevelMtls")
    if isinstance(ports, Mapping):
        places |= {f"spec.portLevelMtls[{port}].mode": _mode(mtls) for port, mtls in ports.items()}
    return tuple(
        f"{path}: STRICT needs mutual TLS between workloads, which this enforcer does not offer"
        for path, mode in places.items()
        if mode == STRICT
    )


def _mode(mtls: object) -> object:
    return mtls.get("mode") if isinstance(mtls, Mapping) else None


def as_policy(document: Mapping[str, Any]) -> Policy | None:
    """What stands in for a PeerAuthentication among a workload's policies: a denial under its name, or
    nothing."""
    reasons = demands(document)
    if not reasons:
        return None
    metadata = document["metadata"]
    selector = ((document.get("spec") or {}).get("selector") or {}).get("matchLabels")
    return Policy(
        namespace=metadata["namespace"],
        name=f"{KIND}/{metadata['name']}",
        action=Action.DENY,
        selector=dict(selector) if selector else None,
        unsupported=reasons,
    )
