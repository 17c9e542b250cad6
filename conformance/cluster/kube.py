"""The Kubernetes API as this suite uses it: documents exactly as written, answers and refusals as data.

Thin on purpose: the official client does the transport (TLS, tokens, proxies); bodies are plain mappings,
so `spec: null` is sent as null, and the headers of every answer are kept for their warnings.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator, Mapping
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from conformance.cluster.answers import (
    Answer,
    ObjectKey,
    Watched,
    answering,
    asked_to_wait,
    lines_of,
    read_answer,
)
from conformance.cluster.bounds import Bounds
from conformance.cluster.images import Image
from conformance.cluster.kubeconfig import load_client
from conformance.errors import SetupError

__all__ = ["Answer", "Kube", "ObjectKey", "Watched"]

CONFLICTS = 5  # attempts at replacing an object that others write to, too
MERGE_PATCH = "application/merge-patch+json"
STRICT = {"fieldValidation": "Strict"}


class Kube:
    """A connection to one cluster. Safe to use from several threads."""

    def __init__(self, kubeconfig: Path, context: str | None = None, *, timeout: float = 30.0) -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        self.timeout = timeout  # seconds that the API may take to answer
        self.client = load_client(kubeconfig, context)
        self.bounds: Bounds | None = None  # of the run that writes; None = nothing is labelled
        self.wrote = False  # whether anything of the run was sent, so that something may be there to remove
        self._discovered: dict[str, dict[str, tuple[str, bool]]] = {}
        self._preferred: dict[str, str] = {}
        self._lock = threading.Lock()
        self.image: Image | None = None  # what stands for the image that our manifests name

    @property
    def mesh(self) -> Kube:
        """The connection to the API that serves the mesh's own kinds: this one, or that of `TwoApis`."""
        return self

    def data_plane_serves(self, api_version: str, kind: str) -> bool:
        """Whether the workloads' own API serves a kind of the mesh, too."""
        return self.serves(api_version, kind)

    def close(self) -> None:
        self.client.close()

    # Requests

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One request. An API that asks to be asked again later (429, or Retry-After) is, as long as it can
        answer in time. Raises SetupError only where no answer came at all."""
        if self.image and method in ("POST", "PUT") and isinstance(body, Mapping):
            body = self.image.adapt(body)
        deadline = time.monotonic() + self.timeout
        while True:
            response = self._send(method, path, body, query or {}, content_type, self.timeout)
            data = self.read(response)
            pause = asked_to_wait(int(response.status), response.response.headers.get("Retry-After"))
            if pause is None or time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)  # what the API asks for
        return read_answer(response, data)

    def header(self, path: str, name: str) -> str:
        """A header of the answer to a GET; empty where it has none. Raises SetupError."""
        response = self._send("GET", path, None, {}, "application/json", self.timeout)
        self.read(response)
        return str(response.response.headers.get(name) or "")

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str],
        content_type: str,
        timeout: float | tuple[float, float],
    ) -> Any:
        headers: dict[str, str] = {"Accept": "application/json", "User-Agent": "authz-conformance"}
        if body is not None:
            headers["Content-Type"] = content_type
        self.client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self.client.configuration.host}{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        with answering(self.client.configuration.host):
            return self.client.call_api(method, url, headers, body, _request_timeout=timeout)

    def open(self, path: str, query: Mapping[str, str]) -> Any:
        """The answer to a GET, its body still to be read with `read`. Raises SetupError where no answer
        began in time."""
        return self._send("GET", path, None, query, "application/json", self.timeout)

    def read(self, response: Any) -> bytes:
        """The rest of an open answer. Raises SetupError where it does not come in time, or breaks off."""
        with answering(self.client.configuration.host):
            return bytes(response.read())

    # Kinds

    def key(self, document: Mapping[str, Any], *, namespace: str = "") -> ObjectKey:
        """Where a document belongs. Its own namespace goes first; a version that is not served is
        replaced by the one the group prefers. Raises SetupError for a kind the cluster does not have."""
        metadata = document.get("metadata") or {}
        wanted = str(document["apiVersion"])
        kind = str(document["kind"])
        version = wanted
        found = self._kinds(version).get(kind)
        if found is None and "/" in wanted:
            version = self._preferred_version(wanted.partition("/")[0]) or wanted
            found = self._kinds(version).get(kind)
        if found is None:
            raise SetupError(f"the cluster does not serve {kind} in {wanted}")
        resource, namespaced = found
        return ObjectKey(
            api_version=version,
            kind=kind,
            resource=resource,
            namespace=str(metadata.get("namespace") or namespace) if namespaced else "",
            name=str(metadata.get("name", "")),
        )

    def serves(self, api_version: str, kind: str) -> bool:
        return kind in self._kinds(api_version)

    def forget_kinds(self) -> None:
        """Discovery is asked again; for after CRDs were installed."""
        with self._lock:
            self._discovered.clear()
            self._preferred.clear()

    def _kinds(self, api_version: str) -> Mapping[str, tuple[str, bool]]:
        with self._lock:
            known = self._discovered.get(api_version)
        if known is None:
            root = "/apis" if "/" in api_version else "/api"
            answer = self.request("GET", f"{root}/{api_version}")
            if answer.code != 404:
                answer.or_raise(f"ask what the API serves in {api_version}")
            known = {
                item["kind"]: (item["name"], bool(item["namespaced"]))
                for item in answer.body.get("resources", [])
                if "/" not in item["name"]
            }
            if known:  # an absent group may still come
                with self._lock:
                    self._discovered[api_version] = known
        return known

    def _preferred_version(self, group: str) -> str | None:
        if group not in self._preferred:
            answer = self.request("GET", f"/apis/{group}")
            preferred = (answer.body.get("preferredVersion") or {}).get("groupVersion")
            if not preferred:
                return None
            self._preferred[group] = str(preferred)
        return self._preferred[group]

    # Objects

    def apply(
        self, document: Mapping[str, Any], *, namespace: str = "", strict: bool = False
    ) -> tuple[ObjectKey, Answer]:
        """Creates the object, or replaces it where it exists, so that a field that is gone is gone. `strict`
        asks for strict field validation; the API's own default is to warn of unknown fields.

        Replacing is an update from the first request on: a create of a name that is taken would meet the
        validation of creates only. A controller that writes the status meanwhile is no conflict."""
        key, document = self._own(document, namespace)
        current = self.get(key)
        if current.code == 404:
            answer = self.create(document, namespace=namespace, strict=strict)
            if answer.reason != "AlreadyExists":
                return key, answer
            current = self.get(key)
        for _ in range(CONFLICTS):
            if not current.ok:
                return key, current
            if self.bounds:
                self.bounds.check_owner(key, current.body)
            body = _replacement(key, document, current.body)
            answer = self.request("PUT", key.path, body=body, query=STRICT if strict else None)
            if answer.reason != "Conflict":
                break
            current = self.get(key)
        return key, answer

    def create(self, document: Mapping[str, Any], *, namespace: str = "", strict: bool = False) -> Answer:
        """Creates the object; 409 AlreadyExists where its name is taken."""
        key, document = self._own(document, namespace)
        query = STRICT if strict else None
        return self.request("POST", key.collection, body=_placed(key, document), query=query)

    def _own(self, document: Mapping[str, Any], namespace: str) -> tuple[ObjectKey, Mapping[str, Any]]:
        """Where the document goes, and itself with the run's labels. Raises SetupError where this run may not
        write there."""
        key = self.key(document, namespace=namespace)
        if self.bounds is None:
            return key, document
        self.bounds.check(key)
        self.wrote = True
        return key, self.bounds.stamped(document)

    def get(self, key: ObjectKey) -> Answer:
        return self.request("GET", key.path)

    def merge_patch(self, key: ObjectKey, patch: Mapping[str, Any]) -> Answer:
        if self.bounds:
            self.bounds.check(key)
        return self.request("PATCH", key.path, body=patch, content_type=MERGE_PATCH)

    def delete(self, key: ObjectKey) -> Answer:
        """Deletes; an object that is not there answers 404, which is not an error here."""
        if self.bounds:
            self.bounds.check(key)
        return self.request("DELETE", key.path)

    def list(
        self, api_version: str, kind: str, *, namespace: str = "", selector: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """The objects and the list's resourceVersion; empty where the kind is not served."""
        found = self._kinds(api_version).get(kind)
        if found is None:
            return [], ""
        key = ObjectKey(api_version=api_version, kind=kind, resource=found[0], namespace=namespace, name="")
        query = {"labelSelector": selector} if selector else None
        answer = self.request("GET", key.collection, query=query).or_raise(f"list {kind}")
        version = str((answer.body.get("metadata") or {}).get("resourceVersion", ""))
        return list(answer.body.get("items") or []), version

    def watch(
        self, api_version: str, kind: str, *, namespace: str, resource_version: str, deadline: float
    ) -> Generator[Watched, None, None]:
        """Events until `deadline` (of time.monotonic) or until the server ends the watch."""
        resource, _ = self._kinds(api_version)[kind]
        key = ObjectKey(api_version=api_version, kind=kind, resource=resource, namespace=namespace, name="")
        left = max(deadline - time.monotonic(), 0.05)
        query = {"watch": "true", "resourceVersion": resource_version, "timeoutSeconds": str(ceil(left))}
        response = self._send("GET", key.collection, None, query, "application/json", (self.timeout, left))
        try:
            for line in lines_of(response.response):
                event = json.loads(line)
                yield Watched(type=event["type"], object=event["object"])
                if time.monotonic() >= deadline:
                    return
        except (urllib3.exceptions.HTTPError, OSError):
            return  # the deadline, or the server's end: the caller looks again
        finally:
            response.response.close()


def _placed(key: ObjectKey, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document in the version and the namespace it goes to."""
    metadata = dict(document.get("metadata") or {})
    if key.namespace:
        metadata["namespace"] = key.namespace
    return {**document, "apiVersion": key.api_version, "metadata": metadata}


def _replacement(key: ObjectKey, document: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    body = _placed(key, document)
    body["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
    for kept in ("clusterIP", "clusterIPs"):  # immutable, assigned by the cluster
        if key.kind == "Service" and kept in current.get("spec", {}):
            body["spec"] = {**(body.get("spec") or {}), kept: current["spec"][kept]}
    return body
