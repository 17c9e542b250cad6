"""What a step did through the API, and the verdicts on what the API said to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.agreement import merge_patch
from conformance.barrier import Changes
from conformance.cluster.kube import Answer, ObjectKey
from conformance.verdict import Failure, Status, Verdict

__all__ = ["Content", "Made", "check_values", "check_warnings", "content_of", "is_what_was_sent"]

Content = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Made:
    """What one step did: `changes` for the barrier, `api` for the record, `verdicts` about the API."""

    written: dict[ObjectKey, str] = field(default_factory=dict)
    deleted: list[ObjectKey] = field(default_factory=list)
    api: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def merge(self, later: Made) -> None:
        """Adds the changes of a later step: what was deleted may have come back, and the reverse."""
        # By what the object is, not by the API version it was written in.
        for key, version in later.written.items():
            self._forget(key)
            self.written[key] = version
        for key in later.deleted:
            if str(key) not in map(str, later.written):
                self._forget(key)
                self.deleted.append(key)

    def _forget(self, key: ObjectKey) -> None:
        self.written = {known: at for known, at in self.written.items() if str(known) != str(key)}
        self.deleted = [known for known in self.deleted if str(known) != str(key)]

    @property
    def changes(self) -> Changes:
        return Changes(written=self.written, deleted=tuple(self.deleted))

    def note(self, action: str, what: str, answer: Answer) -> None:
        said = {"reason": answer.reason, "message": answer.message, "warnings": list(answer.warnings)}
        self.api.append({"action": action, "object": what, "code": answer.code, **said})

    def fail(self, failure: Failure, reason: str) -> None:
        self.verdicts.append(Verdict(status=Status.FAILED, failure=failure, reason=reason))

    def doubt(self, reason: str) -> None:
        self.verdicts.append(Verdict(status=Status.INCONCLUSIVE, reason=reason))


def check_warnings(wanted: tuple[str, ...], made: Made) -> None:
    sent = [text for entry in made.api for text in entry["warnings"]]
    if not wanted and sent:
        made.fail(Failure.WARNING, f"the API warned, and must not: {'; '.join(sent)}")
    for text in wanted:
        if not any(text in warning for warning in sent):
            told = "; ".join(sent) or "nothing"
            made.fail(Failure.WARNING, f"the API must warn of {text!r}; it said {told}")


def check_values(answer: Answer, key: ObjectKey, wanted: Mapping[str, Any], made: Made) -> None:
    """Whether the object reads back so. `wanted`: the value of each dotted path."""
    if not answer.ok:
        made.fail(Failure.READ_BACK, f"{key} cannot be read as {wanted['apiVersion']}: {answer.message}")
        return
    for path, value in wanted.items():
        found = _value_at(answer.body, path)
        if found != value:
            made.fail(Failure.READ_BACK, f"{key}: {path} is {found!r}, it must be {value!r}")


def content_of(answer: Answer) -> Content | None:
    """What somebody wrote into the stored object; None where there is no object. Its status and its
    resourceVersion are others' to change at any time."""
    if not answer.ok:
        return None
    metadata = answer.body["metadata"]
    meant = {name: metadata.get(name) for name in ("uid", "labels", "annotations")}
    return {**meant, "spec": answer.body.get("spec")}


def is_what_was_sent(after: Content, sent: Mapping[str, Any], before: Content) -> bool:
    """Whether a changed object is what a write would have made of it: its document, or its merge patch."""
    spec = {"spec": sent.get("spec")}
    return after["spec"] in (spec["spec"], merge_patch({"spec": before["spec"]}, spec).get("spec"))


def _value_at(value: Any, path: str) -> Any:
    """The value at a dotted path (`spec.rules.0.to`); None where there is none."""
    for part in path.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value
