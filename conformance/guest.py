"""A run on a cluster that is not ours: namespaces, where it may write, what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conformance.authorizer import FEATURE as AUTHORIZER
from conformance.cluster.bounds import Bounds
from conformance.errors import InputError
from conformance.profile import Profile
from conformance.topology import NAMESPACES, Names

if TYPE_CHECKING:
    from conformance.campaign_options import Options
    from conformance.scenario import Scenario

__all__ = [
    "bounds_of",
    "check_guest",
    "is_guest",
    "names_of",
    "profile_of",
    "read_namespaces",
    "why_left_out",
]

MESH_WIDE = "mesh-wide"
NEW_NAMESPACES = "new-namespaces"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SPLIT = re.compile(r"\$\{(\w+):(?:head|tail)\}")


def is_guest(options: Options) -> bool:
    """Whether the cluster is there already; see `stage.choose`."""
    return options.cluster == "existing" or (
        options.cluster == "auto" and bool(options.kubeconfig or options.context)
    )


def read_namespaces(text: str | None) -> dict[str, str]:
    """`foo=team-a,bar=team-b,legacy=team-c` as a mapping, empty for None. Raises InputError."""
    if text is None:
        return {}
    found = dict(part.strip().partition("=")[::2] for part in text.split(","))
    hint = "--namespaces foo=team-a,bar=team-b,legacy=team-c"
    if sorted(found) != sorted(NAMESPACES) or len(text.split(",")) != len(NAMESPACES):
        raise InputError(f"--namespaces must name each of {', '.join(NAMESPACES)} once", hint=hint)
    if wrong := [name for name in found.values() if not LABEL.fullmatch(name)]:
        raise InputError(f"{wrong[0]!r} is not the name of a namespace", hint=hint)
    if len(set(found.values())) != len(found):
        raise InputError("--namespaces names one namespace twice", hint=hint)
    return found


def check_guest(options: Options) -> None:
    """Raises InputError for options that are of no use, or too dangerous, without one another."""
    if options.namespaces and not is_guest(options):
        raise InputError("--namespaces is for --cluster existing")
    if options.mesh_kubeconfig and not is_guest(options):
        raise InputError("--mesh-kubeconfig is for --cluster existing")
    if options.mesh_context and not options.mesh_kubeconfig:
        raise InputError("--mesh-context goes with --mesh-kubeconfig")
    if options.namespaces and options.fuzz:
        raise InputError("--fuzz makes namespaces of its own, and --namespaces says which there are")


def names_of(options: Options, profile: Profile, *, run: str, worker: str) -> Names:
    """Raises InputError where several workers would share the namespaces that were given."""
    given: Mapping[str, str] = {}
    if options.namespaces:
        if worker:
            raise InputError("--namespaces are for one worker", hint="leave N or -n out")
        given = options.namespaces
    elif is_guest(options):
        given = {name: f"authz-conf-{run}{worker}-{name}" for name in NAMESPACES}
    return Names(run=run, worker=worker, root=profile.root_namespace, given=given)


def bounds_of(options: Options, profile: Profile, *, run: str) -> Bounds:
    return Bounds(
        run=run,
        root=profile.root_namespace,
        given=frozenset(options.namespaces.values()),
        mesh_wide=options.allow_mesh_wide,
        enforced=is_guest(options),
    )


def profile_of(options: Options, profile: Profile) -> Profile:
    """The profile without what may not be done here, so that generated policies keep to it as well."""
    left_out = set()
    if is_guest(options) and not options.allow_mesh_wide:
        left_out.add(MESH_WIDE)
    if options.namespaces:
        left_out.add(NEW_NAMESPACES)
    return replace(profile, features=tuple(item for item in profile.features if item not in left_out))


def why_left_out(options: Options, profile: Profile, names: Names, scenario: Scenario) -> str:
    """Why a case is skipped on this cluster whatever the mesh has; empty = it is not."""
    if is_guest(options) and not options.allow_mesh_wide:
        if scenario.mesh_wide:
            return "it touches the whole mesh, which others use, too (--allow-mesh-wide runs it)"
        if AUTHORIZER in scenario.features and profile.install_enforcer:
            return "its authorizer would stand in the mesh's root namespace (--allow-mesh-wide runs it)"
    if options.namespaces:
        if NEW_NAMESPACES in scenario.features:
            return "it makes a namespace, and --namespaces says which there are"
        unsplit = set(names.unsplit())
        if used := sorted(unsplit & _split(scenario)):
            real = ", ".join(map(names.real, used))
            return f"no prefix or suffix of {real} selects that namespace alone, so no wildcard can be tried"
    return ""


def _split(scenario: Scenario) -> set[str]:
    """Logical namespaces of which the case uses a prefix or suffix."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.update(SPLIT.findall(value))
        elif isinstance(value, Mapping):
            walk([*value.keys(), *value.values()])
        elif isinstance(value, Sequence):
            for item in value:
                walk(item)

    walk([document.body for document in scenario.documents])
    return found
