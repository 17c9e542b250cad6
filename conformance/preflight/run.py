"""All checks in order; the first stage that does not hold is the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from conformance.errors import SetupError
from conformance.preflight.api import check_api, check_clock, check_crds, check_mesh_api
from conformance.preflight.canary import check_mutual_tls, check_policy, check_workloads
from conformance.preflight.checks import Check, Ground, fail
from conformance.preflight.permissions import check_permissions
from conformance.preflight.place import check_control_plane, check_in_place, check_namespaces, check_quota

__all__ = ["preflight"]

Stage = Sequence[Callable[[Ground], Iterator[Check]]]
# Each builds on those before it: without an API nothing can be asked, without permissions nothing created.
STAGES: Sequence[Stage] = (
    (check_api,),
    (check_mesh_api, check_clock, check_crds),
    (check_permissions,),
    (check_namespaces, check_control_plane),
    (check_quota, check_in_place),
    (check_policy, check_workloads),
    (check_mutual_tls,),
)


def preflight(ground: Ground) -> list[Check]:
    """What was found. Raises SetupError, one line per problem; who called removes what stands by then."""
    found: list[Check] = []
    for stage in STAGES:
        for check in stage:
            try:
                found += list(check(ground))
            except SetupError as error:
                name = check.__name__.removeprefix("check_").replace("_", " ")
                found.append(Check(name=name, ok=False, said=error.message, remedy=error.hint or "see above"))
        fail(found)
    # A remedy for what is right would only confuse.
    return [replace(check, remedy="") if check.ok else check for check in found]
