"""A Kubernetes API small enough to misbehave on demand: lists, watches and patches over real HTTP."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes import client

from enforcer.kube import Kube
from enforcer.tokens import POD_NAME, POD_UID, REVIEWS, TokenError
from enforcer.watch import ALL, Kind
from tests.enforcer.callers import read_token

Json = dict[str, Any]
WAIT_SECONDS = 60


class FakeApi:
    """Holds objects by collection path and the events since the start."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 0
        self.objects: dict[str, dict[tuple[str, str], Json]] = defaultdict(dict)
        self.events: dict[str, list[tuple[int, Json]]] = defaultdict(list)
        self.oldest = 0
        """Watches from before this version are answered 410."""
        self.missing: set[str] = set()
        self.failing: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.patches: list[tuple[str, Any]] = []
        self.closing = False
        self.epoch = 0

    def put(self, kind: Kind, document: Json) -> None:
        with self.changed:
            self._store(kind.path, document)

    def _store(self, path: str, document: Json) -> None:
        key = _key(document)
        known = key in self.objects[path]
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path][key] = document
        self._event(path, "MODIFIED" if known else "ADDED", document)

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        with self.changed:
            document = self.objects[kind.path].pop((namespace, name))
            self.version += 1
            document = {
                **document,
                "metadata": {**document["metadata"], "resourceVersion": str(self.version)},
            }
            self._event(kind.path, "DELETED", document)

    def _event(self, path: str, verb: str, document: Json) -> None:
        self.events[path].append((self.version, json.loads(json.dumps({"type": verb, "object": document}))))
        self.changed.notify_all()

    def forget(self) -> None:
        """Drops all history and every open watch."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.drop()

    def drop(self) -> None:
        """Ends every open watch."""
        with self.changed:
            self.epoch += 1
            self.changed.notify_all()

    def patch(self, path: str, body: Any) -> Json | None:
        with self.changed:
            self.patches.append((path, body))
            collection, document = self._find(path.removesuffix("/status"))
            if document is None:
                return None
            after: Json = json.loads(json.dumps(document))
            if isinstance(body, list):
                for operation in body:
                    index = int(operation["path"].split("/")[2])
                    after["webhooks"][index]["clientConfig"]["caBundle"] = operation["value"]
            else:
                after |= body
            self._store(collection, after)
            return after

    def _find(self, path: str) -> tuple[str, Json | None]:
        for collection, documents in self.objects.items():
            for (namespace, name), document in documents.items():
                prefix, _, plural = collection.rpartition("/")
                scoped = f"{prefix}/namespaces/{namespace}/{plural}" if namespace else collection
                # Watched kinds are kept under their collection of all namespaces, created objects as put.
                if path in (f"{scoped}/{name}", f"{collection}/{name}"):
                    return collection, document
        return "", None

    def wait_for(self, holds: Any) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, WAIT_SECONDS)


def _key(document: Json) -> tuple[str, str]:
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]


def _review(spec: Json) -> Json:
    """The answer about a token of tests.enforcer.callers."""
    try:
        caller = read_token(spec["token"])
    except TokenError as error:
        return {"user": {}, "error": str(error)}
    identity = caller.identity
    return {
        "authenticated": True,
        "audiences": spec["audiences"],
        "user": {
            "username": f"system:serviceaccount:{identity.namespace}:{identity.service_account}",
            "extra": {POD_NAME: [caller.pod], POD_UID: [caller.uid]},
        },
    }


class _Handler(BaseHTTPRequestHandler):
    timeout = WAIT_SECONDS
    protocol_version = "HTTP/1.1"
    api: FakeApi

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _answer(self, code: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, code: int, message: str) -> None:
        self._answer(code, {"kind": "Status", "code": code, "message": message})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        api = self.api
        with api.changed:
            verb = "watch" if "watch" in query else "list"
            api.requests.append((verb, url.path))
            api.changed.notify_all()
        if url.path in api.missing:
            self._fail(404, "the server could not find the requested resource")
        elif url.path in api.failing:
            self._fail(500, "etcd is on holiday")
        elif verb == "watch":
            self._watch(url.path, int(query["resourceVersion"]))
        elif "/secrets/" in url.path:
            self._get(url.path)
        else:
            self._list(url.path, query)

    def _get(self, path: str) -> None:
        with self.api.changed:
            _, document = self.api._find(path)
        if document is None:
            self._fail(404, "not found")
        else:
            self._answer(200, document)

    def _list(self, path: str, query: dict[str, str]) -> None:
        with self.api.changed:
            items = list(self.api.objects[path].values())
            metadata = {"resourceVersion": str(self.api.version)}
            # Two pages wherever there is something to divide.
            if len(items) > 1 and "continue" not in query:
                items, metadata = items[:1], {**metadata, "continue": "1"}
            elif "continue" in query:
                items = items[1:]
            body = json.loads(json.dumps({"kind": "List", "metadata": metadata, "items": items}))
        self._answer(200, body)

    def _watch(self, path: str, version: int) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        api = self.api
        with api.changed:
            epoch, sent = api.epoch, 0
            if version < api.oldest:
                status = {"kind": "Status", "code": 410, "message": "too old resource version"}
                self._chunk({"type": "ERROR", "object": status})
                self.wfile.write(b"0\r\n\r\n")
                return
            while not api.closing and api.epoch == epoch:
                for at, event in api.events[path][sent:]:
                    if at > version:
                        self._chunk(event)
                sent = len(api.events[path])
                api.changed.wait(WAIT_SECONDS)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Json) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in self.api.failing:
            self._fail(500, "etcd is on holiday")
        elif self.path == REVIEWS:
            self._answer(201, {"kind": "TokenReview", "status": _review(body["spec"])})
        else:
            with self.api.changed:
                self.api._store(self.path, body)
            self._answer(201, body)

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in self.api.failing:
            self._fail(500, "etcd is on holiday")
            return
        answer = self.api.patch(self.path, body)
        if answer is None:
            self._fail(404, "not found")
        else:
            self._answer(200, answer)


@contextmanager
def serve(api: FakeApi | None = None) -> Iterator[tuple[FakeApi, Kube]]:
    """A running fake and the real client on it."""
    api = api or FakeApi()
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # server_close waits for the handlers, so that no socket outlives its test.
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    configuration.connection_pool_maxsize = len(ALL) + 4
    configuration.retries = False
    kube = Kube(client.ApiClient(configuration))
    try:
        yield api, kube
    finally:
        with api.changed:
            api.closing = True
            api.changed.notify_all()
        kube.close()
        server.shutdown()
        server.server_close()
