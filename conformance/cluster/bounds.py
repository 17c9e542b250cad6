"""Where a run may write, and the labels by which everything it made is found again.

Held by the connection itself (`Kube.bounds`), the one place through which every document goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformance.errors import SetupError

if TYPE_CHECKING:
    from conformance.cluster.kube import ObjectKey

__all__ = ["MANAGED_BY", "MANAGER", "RUN", "Bounds"]

MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "authz-conformance"
RUN = "authz-conformance/run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`given`: namespaces that were there before and are lent to the run. `enforced` false: the cluster is
    the run's own, everything may be written, and only the labels are put on."""

    run: str
    root: str
    given: frozenset[str] = frozenset()
    mesh_wide: bool = False
    enforced: bool = True

    @property
    def labels(self) -> dict[str, str]:
        return {MANAGED_BY: MANAGER, RUN: self.run}

    def stamped(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with the labels of this run."""
        metadata = dict(document.get("metadata") or {})
        metadata["labels"] = {**(metadata.get("labels") or {}), **self.labels}
        return {**document, "metadata": metadata}

    def check(self, key: ObjectKey) -> None:
        """Raises SetupError where this run may not write that object. The names of our own namespaces carry
        the run's id, which nobody else's do."""
        if not self.enforced:
            return
        ours = self.run in (key.name if key.kind == "Namespace" else key.namespace)
        lent = key.kind != "Namespace" and key.namespace in self.given
        mesh_wide = self.mesh_wide and key.kind != "Namespace" and key.namespace == self.root
        if not (ours or lent or mesh_wide):
            raise SetupError(
                f"{key} is outside the namespaces of this run and is not written",
                hint="--allow-mesh-wide for the mesh's root namespace" if key.namespace == self.root else "",
            )

    def owns(self, current: Mapping[str, Any]) -> bool:
        """Whether this run made what stands there."""
        labels = (current.get("metadata") or {}).get("labels") or {}
        return not self.enforced or (labels.get(MANAGED_BY), labels.get(RUN)) == (MANAGER, self.run)

    def check_owner(self, key: ObjectKey, current: Mapping[str, Any]) -> None:
        """Raises SetupError where what stands there was not made by this run."""
        if not self.owns(current):
            raise SetupError(
                f"{key} exists and is not of this run: it is left as it is",
                hint="`python -m conformance cleanup` removes what other runs left",
            )
