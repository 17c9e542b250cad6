"""From a container of a pod spec to what the runtime is asked to start."""

import secrets
from collections.abc import Callable
from typing import Any

from conformance.cluster.embedded.kubelet.environment import (
    ConfigError,
    Lookup,
    PodFacts,
    command_of,
    environment_of,
)
from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.images import find_image
from conformance.cluster.embedded.node.runtime import ContainerSpec, Mount

Object = dict[str, Any]


async def container_spec(
    container: Object, facts: PodFacts, *, mounts: Callable[[Object], tuple[Mount, ...]], lookup: Lookup
) -> ContainerSpec:
    """A start of the container, under a new id. Raises ConfigError, ImageError, ApiClientError."""
    pod_context = facts.pod["spec"].get("securityContext") or {}
    context = container.get("securityContext") or {}
    image = find_image(container.get("image") or "")
    uid = user_of(pod_context, context)
    variables = await environment_of(container, facts, image=image.env, lookup=lookup)
    return ContainerSpec(
        id=secrets.token_hex(32),
        sandbox=facts.pod["metadata"]["uid"],
        argv=command_of(container, variables),
        env=variables,
        cwd=container.get("workingDir") or image.cwd,
        mounts=mounts(container),
        capabilities=capabilities_of(context),
        uid=uid,
        tty=bool(container.get("tty")),
    )


def capabilities_of(context: Object) -> frozenset[str]:
    """What the container is given: nothing but what it adds. Raises ConfigError for a privileged one."""
    if context.get("privileged"):
        raise ConfigError("privileged containers are not offered by the embedded cluster")
    added = {
        name.upper().removeprefix("CAP_") for name in (context.get("capabilities") or {}).get("add") or ()
    }
    if "ALL" in added:
        return frozenset(linux.CAPABILITIES)
    if unknown := sorted(added - set(linux.CAPABILITIES)):
        raise ConfigError(f"unknown capability: {', '.join(unknown)}")
    return frozenset(added)


def user_of(pod_context: Object, context: Object) -> int | None:
    """The user that the container runs as. Raises ConfigError.

    None leaves the image's, which is not root (enforcer/Dockerfile), but may not exist here: then it is the
    user who runs the cluster."""
    merged = {**pod_context, **{key: value for key, value in context.items() if value is not None}}
    uid: int | None = merged.get("runAsUser")
    if merged.get("runAsNonRoot") and uid == 0:
        raise ConfigError("container's runAsUser breaks non-root policy")
    return uid
