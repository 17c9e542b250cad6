"""Mutants of the embedded cluster: what its API stores, refuses and says, and what its controllers leave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conformance.cluster.embedded import control_plane
from conformance.cluster.embedded.apiserver import answers, api, objects, webhooks, writes
from conformance.cluster.embedded.apiserver.requests import Call
from conformance.cluster.embedded.apiserver.schema import StructuralSchema
from conformance.cluster.embedded.apiserver.status import ApiError
from conformance.cluster.embedded.controllers import namespaces
from tests.mutants.seams import MUTANTS, around, instead, mutant

REFUSALS = (400, 403, 422)
POLICIES = "/apis/security.istio.io"


def main(sockets: Any, runtime_socket: Any, options: Any) -> None:
    """The node's entry with one fault: `options["mutant"]` names it."""
    MUTANTS[options["mutant"]]()
    control_plane.main(sockets, runtime_socket, {})


@mutant
def schema_unenforced() -> None:
    """What a CRD's schema forbids is accepted."""
    instead(StructuralSchema, "validate", lambda *_arguments: [])


@mutant
def nothing_pruned() -> None:
    """Unknown fields and nulls are stored as they came."""
    instead(StructuralSchema, "prune", lambda _schema, obj: (copy.deepcopy(dict(obj)), []))


@mutant
def strictness_ignored() -> None:
    """Whoever asks for strict field validation is warned, as everybody is."""
    instead(Call, "field_validation", property(lambda _call: "Warn"))


@mutant
def warnings_lost() -> None:
    """Answers come without their Warning headers."""
    instead(api, "add_warnings", lambda *_arguments: None)


@mutant
def validation_unasked() -> None:
    """Validating webhooks are not asked."""

    @around(webhooks, "validate")
    async def _validate(_original: Any, *_arguments: Any, **_more: Any) -> list[str]:
        return []


@mutant
def absent_webhooks_ignored() -> None:
    """A webhook that cannot be asked is taken for one that agrees."""

    @around(webhooks, "_ask")
    async def _ask(original: Any, hook: Any, *arguments: Any) -> Any:
        return await original(replace(hook, config={**hook.config, "failurePolicy": "Ignore"}), *arguments)


@mutant
def refused_updates_stored() -> None:
    """An update is refused, and stored all the same."""

    @around(writes, "change_object")
    async def _change(original: Any, server: Any, call: Call, change: Callable[..., Any], **more: Any) -> Any:
        try:
            return await original(server, call, change, **more)
        except ApiError as error:
            target = call.target
            live = server.storage.get(call.resource.key, target.namespace, target.name)
            if live is not None and call.resource.custom and error.code in REFUSALS:
                writes._store(server, call, objects.for_update(call, change(live), live), live)
            raise


@mutant
def labels_of_creation() -> None:
    """A pod keeps the labels that it was created with; whoever changes them is told that it is done."""

    @around(writes, "for_update")
    def _for_update(original: Any, call: Call, obj: Any, live: Any) -> Any:
        merged = original(call, obj, live)
        if call.resource.key == "pods":
            merged["metadata"] = {**merged["metadata"], "labels": live["metadata"].get("labels")}
        return merged


@mutant
def read_as_stored() -> None:
    """An object is answered in the version it is stored in, whichever is asked for."""
    instead(answers, "in_version", lambda _resource, obj: obj)


@mutant
def policies_outlive_their_namespace() -> None:
    """A deleted namespace goes without its policies; the next one of that name has them."""

    @around(namespaces, "namespaced_paths")
    async def _paths(original: Any, *arguments: Any) -> list[str]:
        return [path for path in await original(*arguments) if not path.startswith(POLICIES)]
