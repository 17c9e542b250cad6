"""Which policies govern a pod."""

from collections.abc import Iterable, Mapping

from enforcer.policy import Policy


def govern(
    policies: Iterable[Policy], *, namespace: str, labels: Mapping[str, str], root_namespace: str
) -> tuple[Policy, ...]:
    """The policies for a pod with these labels in this namespace, ordered by namespace and name.

    A policy governs the pods of its own namespace, one in the mesh's root namespace those of every namespace;
    its selector, if it has one, must be a subset of the pod's labels. Neither kind overrides the other.
    A policy with targetRef or targetRefs is for gateways and waypoints, never for a sidecar.
    """
    return tuple(
        sorted(
            (
                policy
                for policy in policies
                if not policy.targets_gateway
                and policy.namespace in (namespace, root_namespace)
                and (policy.selector or {}).items() <= labels.items()
            ),
            key=lambda policy: (policy.namespace, policy.name),
        )
    )
