"""A step's change, made through the API and undone at the end of the case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from conformance.cluster.kube import Answer, ObjectKey
from conformance.errors import SetupError
from conformance.placeholders import resolve
from conformance.pods import pod_key
from conformance.rig import Rig
from conformance.scenario import Change, ChangeKind, Document, Refusal, Relabel, Scenario, Step
from conformance.step_result import Content, Made, check_values, check_warnings, content_of, is_what_was_sent
from conformance.topology import Ref
from conformance.verdict import Failure

__all__ = ["Hand"]

# Not about an object's content: not logged in, gone meanwhile, took too long, too many requests.
NO_REFUSAL = (401, 404, 408, 429)


class Hand:
    """Makes the changes of one case and remembers them, so that all can be undone."""

    def __init__(self, rig: Rig, scenario: Scenario) -> None:
        self._rig = rig
        self._scenario = scenario
        self._existing: dict[ObjectKey, None] = {}  # in the order of creation
        self._labels: dict[Ref, dict[str, str | None]] = {}
        self._labelled: dict[Ref, dict[str, str]] = {}  # the labels of pods that were relabelled
        self._stored: dict[ObjectKey, Answer] = {}  # the API's answer to our last write
        self.applied: list[dict[str, Any]] = []

    def resolve(self, value: Any) -> Any:
        rig = self._rig
        return resolve(
            value,
            names=rig.names,
            pod_address=lambda ref: rig.pods[ref].address,
            pod_address6=lambda ref: rig.pods[ref].address6,
            service_address=lambda ref: rig.services[ref],
        )

    @property
    def features(self) -> tuple[str, ...]:
        return self._scenario.features

    def made(self, body: Mapping[str, Any]) -> bool:
        """Whether a stored object is one that this case has applied."""
        metadata = body["metadata"]
        wanted = (body["kind"], metadata["namespace"], metadata["name"])
        return any((key.kind, key.namespace, key.name) == wanted for key in self._existing)

    def labels(self, ref: Ref) -> Mapping[str, str]:
        """The labels that a workload's pod has now."""
        return self._labelled.get(ref, self._rig.pods[ref].labels)

    def policy_name(self, name: str) -> str:
        """namespace/name of a policy of this case: the manifest's own namespace, else foo."""
        for document in self._scenario.documents:
            if document.answers_to(name):
                key = self._key(document)
                return f"{key.namespace}/{key.name}"
        return f"{self._rig.names.real('foo')}/{name}"

    def is_custom(self, name: str) -> bool:
        """Whether a CUSTOM policy of that name was applied."""
        return any(
            body["metadata"]["name"] == name and (body.get("spec") or {}).get("action") == "CUSTOM"
            for body in self.applied
            if "metadata" in body
        )

    def make(self, step: Step) -> Made:
        """The change. Raises SetupError where the API gives no answer or does not know a kind."""
        made = Made()
        change = step.change
        match change.kind:
            case ChangeKind.APPLY:
                for selector in change.documents:
                    body = self.resolve(self._scenario.document(selector).body)
                    self._apply(body, step.refused, made, create=True)
            case ChangeKind.PATCH:
                self._patch(change, step.refused, made)
            case ChangeKind.DELETE:
                for selector in change.documents:
                    self._delete(self._key(self._scenario.document(selector)), made)
            case ChangeKind.LABEL if change.relabel:
                self._relabel(change.relabel, made)
            case ChangeKind.RESTART if change.restart:
                self._restart(change.restart, made)
            case ChangeKind.READ:
                self._read(change, made)
        if step.warnings is not None:
            check_warnings(step.warnings, made)
        return made

    def put(self, body: Mapping[str, Any], *, refused: Refusal | None = None, strict: bool = False) -> Made:
        """Applies one document of no scenario file, with strict field validation or with the API's default.
        A refusal is a failure; with `refused` anything else is."""
        made = Made()
        self._apply(self.resolve(dict(body)), refused, made, strict=strict)
        return made

    @contextmanager
    def _writing(self, key: ObjectKey) -> Iterator[None]:
        """A write that is not answered may be carried out all the same, and late."""
        try:
            yield
        except SetupError:
            self._rig.unanswered[key] = None
            raise

    def drop(self, body: Mapping[str, Any]) -> Made:
        """Deletes what `put` applied."""
        made = Made()
        self._delete(
            self._rig.kube.key(self.resolve(dict(body)), namespace=self._rig.names.real("foo")), made
        )
        return made

    def _key(self, document: Document) -> ObjectKey:
        body = self.resolve(document.body)
        return self._rig.kube.key(body, namespace=self._rig.names.real("foo"))

    def _apply(
        self, body: Any, refused: Refusal | None, made: Made, *, create: bool = False, strict: bool = False
    ) -> None:
        """Applies a resolved document. `create`: what must be refused is also tried as a new object."""
        kube, namespace = self._rig.kube, self._rig.names.real("foo")
        key = kube.key(body, namespace=namespace)
        before = content_of(kube.get(key)) if refused else None
        if create and refused and before is not None:
            # What stands there already is refused twice: as a new object and as a change of this one.
            with self._writing(key):
                created = kube.create(body, namespace=namespace)
            made.note("create", str(key), created)
            self._weigh(created, key, body, refused, before, made)
        with self._writing(key):
            _, answer = kube.apply(body, namespace=namespace, strict=strict)
        made.note("apply strictly" if strict else "apply", str(key), answer)
        if refused is None:
            self.applied.append(body)
        if answer.ok:
            self._existing[key] = None
        self._weigh(answer, key, body, refused, before, made)

    def _patch(self, change: Change, refused: Refusal | None, made: Made) -> None:
        key = self._key(self._scenario.document(change.documents[0]))
        before = content_of(self._rig.kube.get(key)) if refused else None
        patch = self.resolve(dict(change.patch or {}))
        with self._writing(key):
            answer = self._rig.kube.merge_patch(key, patch)
        made.note("patch", str(key), answer)
        if refused is None:
            self.applied.append({"patch": patch, "of": str(key)})
        self._weigh(answer, key, patch, refused, before, made)

    def _weigh(
        self,
        answer: Answer,
        key: ObjectKey,
        sent: Mapping[str, Any],
        refused: Refusal | None,
        before: Content | None,
        made: Made,
    ) -> None:
        said = f"{answer.code} {answer.reason}: {answer.message}"
        if answer.ok:
            made.written[key] = str(answer.body["metadata"]["resourceVersion"])
            self._stored[key] = answer
            if refused is not None:
                made.fail(Failure.NOT_REFUSED, f"{key} was accepted; it must be refused")
            return
        if answer.code >= 500 or answer.code in NO_REFUSAL or answer.reason == "Conflict":
            if answer.code >= 500 or answer.code == 408:
                self._rig.unanswered[key] = None  # it may have been stored, or be stored later
            made.doubt(f"the API could not take {key}: {said}")  # which says nothing about its content
            return
        if refused is None:
            made.fail(Failure.REFUSED, f"{key} was refused: {said}")
            return
        if answer.reason == "AlreadyExists":
            reason = f"nothing but its name kept {key} from being created; its content must be refused"
            made.fail(Failure.NOT_REFUSED, reason)
            return
        if answer.code not in refused.codes:
            codes = " or ".join(map(str, refused.codes))
            made.fail(Failure.NOT_REFUSED, f"{key} was refused with {said}; the code must be {codes}")
        asserted = self._rig.profile.asserts_messages and refused.message
        if asserted and self.resolve(refused.message) not in answer.message:
            made.fail(Failure.NOT_REFUSED, f"{key}: {refused.message!r} is not in the refusal: {said}")
        now = self._rig.kube.get(key)
        after = content_of(now)
        if after != before:
            made.fail(Failure.NOT_REFUSED, f"{key} was refused, yet it changed from {before} to {after}")
            if after and (before is None or is_what_was_sent(after, sent, before)):
                self._existing[key], self._stored[key] = None, now  # any other change is somebody else's

    def _delete(self, key: ObjectKey, made: Made) -> None:
        answer = self._rig.kube.delete(key)
        made.note("delete", str(key), answer)
        if answer.ok or answer.code == 404:
            self._existing.pop(key, None)
            # The same object, whichever API version it was written in.
            self._stored = {each: answer for each, answer in self._stored.items() if str(each) != str(key)}
            made.deleted.append(key)
        else:
            made.doubt(f"{key} could not be deleted: {answer.code} {answer.reason}: {answer.message}")

    def _relabel(self, relabel: Relabel, made: Made) -> None:
        pod = self._rig.pods[relabel.workload]
        saved = self._labels.setdefault(relabel.workload, {})
        labels: dict[str, str | None] = {str(self.resolve(k)): str(v) for k, v in relabel.put.items()}
        labels |= dict.fromkeys(relabel.remove)
        for name in labels:
            saved.setdefault(name, pod.labels.get(name))
        self._patch_labels(relabel.workload, labels, made)

    def _patch_labels(self, ref: Ref, labels: Mapping[str, str | None], made: Made) -> None:
        pod = self._rig.pods[ref]
        key = pod_key(self._rig.kube, pod)
        answer = self._rig.kube.merge_patch(key, {"metadata": {"labels": dict(labels)}})
        made.note("label", str(key), answer)
        if answer.ok:
            self._labelled[ref] = dict(answer.body["metadata"].get("labels") or {})
            made.written[key] = str(answer.body["metadata"]["resourceVersion"])
        else:
            made.doubt(f"{key} could not be labelled: {answer.code} {answer.reason}: {answer.message}")

    def _restart(self, ref: Ref, made: Made) -> None:
        old = self._rig.pods[ref]
        gone = pod_key(self._rig.kube, old)
        new = self._rig.restart(ref)
        self._labels.pop(ref, None)  # a new pod has the labels of its template
        self._labelled.pop(ref, None)
        key = pod_key(self._rig.kube, new)
        answer = self._rig.kube.get(key)
        made.note("restart", str(key), answer)
        made.deleted.append(gone)
        if answer.ok:
            made.written[key] = str(answer.body["metadata"]["resourceVersion"])

    def _read(self, change: Change, made: Made) -> None:
        reading = change.reading
        if reading is None:
            return
        document = self._scenario.document(reading.document)
        body = dict(self.resolve(document.body))
        group, slash, _ = str(body["apiVersion"]).rpartition("/")
        body["apiVersion"] = f"{group}{slash}{reading.version}"
        if not self._rig.kube.serves(body["apiVersion"], document.kind):
            made.doubt(f"the cluster does not serve {document.kind} in {body['apiVersion']}")
            return
        key = self._rig.kube.key(body, namespace=self._rig.names.real("foo"))
        answer = self._rig.kube.get(key)
        made.note(f"read as {reading.version}", str(key), answer)
        check_values(
            answer, key, {"apiVersion": body["apiVersion"], **self.resolve(dict(reading.equals))}, made
        )

    def disturbed(self) -> list[str]:
        """Objects of this case that others have changed since, in words. The status is others' to write.
        Raises SetupError where the API does not tell."""
        found = []
        for key, stored in self._stored.items():
            if key not in self._existing:
                continue  # refused, or not this case's own
            now = self._rig.kube.get(key)
            if now.code == 404:
                found.append(f"{key} was deleted")
                continue
            now.or_raise(f"read {key} again")
            was, is_now = (each.body["metadata"].get("generation") for each in (stored, now))
            if was != is_now or content_of(stored) != content_of(now):
                found.append(f"{key} was changed (generation {was}, now {is_now})")
        late = [key for key in self._rig.arrived() if key not in self._existing]
        return found + [f"{key} came late, of a write without an answer" for key in late]

    def undo(self) -> Made:
        """Deletes everything that is still there and restores labels. Never raises for a refusal. What
        cannot be deleted now is left to the rig: no case may run beside it."""
        made = Made()
        for key in reversed(list(self._existing)):
            try:
                self._delete(key, made)
            except SetupError as error:
                made.doubt(error.message)
        self._rig.leftovers += self._existing
        for ref, labels in self._labels.items():
            try:
                self._patch_labels(ref, labels, made)
            except SetupError as error:
                made.doubt(error.message)
        return made
