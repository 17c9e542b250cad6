"""A set that disagrees, made as small as it can be: every way of leaving one thing out is tried, several at
once, until none of them disagrees any more.

Works on the documents, not on the draw: one push tries as many candidates as the pool has slots, where a
shrinker of draws would need a push for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from conformance.fuzz.cases import Document, PolicySet

__all__ = ["reductions", "shrink"]

Disagree = Callable[[Sequence[PolicySet]], Sequence[bool]]
# How often a set may become smaller; each time something is left out, so it ends by itself long before.
MOST_STEPS = 200


def shrink(
    drawn: PolicySet,
    *,
    disagree: Disagree,
    acceptable: Callable[[PolicySet], bool],
    at_once: int,
) -> PolicySet:
    """The smallest set found that still disagrees, from which nothing can be left out. `disagree` is asked
    for up to `at_once` sets together; mesh-wide ones are asked alone."""
    for _ in range(MOST_STEPS):
        smaller = _first(
            (candidate for candidate in reductions(drawn) if acceptable(candidate)), disagree, at_once
        )
        if smaller is None:
            break
        drawn = smaller
    return drawn


def _first(candidates: Iterator[PolicySet], disagree: Disagree, at_once: int) -> PolicySet | None:
    """The first candidate that disagrees."""
    waiting: list[PolicySet] = []
    for candidate in candidates:
        if candidate.mesh_wide and waiting:
            if (found := _ask(waiting, disagree)) is not None:
                return found
            waiting = []
        waiting.append(candidate)
        if candidate.mesh_wide or len(waiting) == at_once:
            if (found := _ask(waiting, disagree)) is not None:
                return found
            waiting = []
    return _ask(waiting, disagree) if waiting else None


def _ask(waiting: Sequence[PolicySet], disagree: Disagree) -> PolicySet | None:
    answers = disagree(waiting)
    return next((one for one, differs in zip(waiting, answers, strict=True) if differs), None)


def reductions(drawn: PolicySet) -> Iterator[PolicySet]:
    """Every set with one thing less, the largest things first: documents, rules, parts, entries, values."""
    documents = drawn.documents
    if len(documents) > 1:
        for one in documents:  # alone
            yield PolicySet(documents=(one,))
        if len(documents) > 2:
            for index in range(len(documents)):
                yield PolicySet(documents=(*documents[:index], *documents[index + 1 :]))
    for index, document in enumerate(documents):
        for smaller in _documents(document):
            yield PolicySet(documents=(*documents[:index], smaller, *documents[index + 1 :]))


def _documents(document: Document) -> Iterator[Document]:
    spec = document.get("spec") or {}
    metadata = document["metadata"]
    for rules in _shorter(spec.get("rules") or []):
        yield {**document, "spec": {**spec, "rules": rules}}
    for key in ("selector", "targetRefs", "mtls", "portLevelMtls"):
        if key in spec:
            yield {**document, "spec": _without(spec, key)}
    if metadata["namespace"] == "${root}":
        yield {**document, "metadata": {**metadata, "namespace": "${foo}"}}
    if "annotations" in metadata:
        yield {**document, "metadata": _without(metadata, "annotations")}
    if not document["apiVersion"].endswith("/v1"):
        yield {**document, "apiVersion": "security.istio.io/v1"}
    ports = spec.get("portLevelMtls") or {}
    if len(ports) > 1:
        for port in ports:
            yield {**document, "spec": {**spec, "portLevelMtls": _without(ports, port)}}
    for index, rule in enumerate(spec.get("rules") or []):
        for smaller in _rules(rule):
            rules = [*spec["rules"][:index], smaller, *spec["rules"][index + 1 :]]
            yield {**document, "spec": {**spec, "rules": rules}}


def _rules(rule: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in rule:
        yield _without(rule, part)
    for part, entries in rule.items():
        for fewer in _shorter(entries):
            yield {**rule, part: fewer}
        for index, entry in enumerate(entries):
            for smaller in _entries(entry):
                yield {**rule, part: [*entries[:index], smaller, *entries[index + 1 :]]}


def _entries(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of `from` and `to` the fields are one level down; of `when` they stand beside the key."""
    (name, fields), *more = entry.items()
    if not more and isinstance(fields, dict):
        for smaller in _fields(fields):
            yield {name: smaller}
    else:
        yield from _fields(entry)


def _fields(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    lists = {name: values for name, values in fields.items() if isinstance(values, list)}
    if len(lists) > 1:
        for name in lists:
            yield _without(fields, name)
    for name, values in lists.items():
        for fewer in _shorter(values):
            yield {**fields, name: fewer}


def _shorter(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Each item alone, then the list without each; never empty."""
    if len(values) > 1:
        yield from ([value] for value in values)
    if len(values) > 2:
        yield from ([*values[:index], *values[index + 1 :]] for index in range(len(values)))


def _without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}
