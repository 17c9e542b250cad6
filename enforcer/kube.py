"""The Kubernetes API as the controller needs it: raw JSON over the official client.

Only transport, credentials and their renewal come from the client. Objects stay the JSON they are: building
its model of every pod costs more than all the rest of the controller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from enforcer.errors import EnforcerError

Json = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0


class KubeError(EnforcerError):
    """The API could not be reached (status 0) or answered with an error."""

    def __init__(self, *, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message


class EventStream:
    """One watch: iterates over decoded events; `stop` ends it from another thread."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[Json]:
        import urllib3

        pending = b""
        try:
            for chunk in self._response.stream(amt=None, decode_content=False):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise KubeError(status=0, message=f"watch broke off: {error}") from error
        finally:
            self._response.close()

    def stop(self) -> None:
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            # Already closed by its reader: nothing left to end.
            return


class Kube:
    """A thin, thread-safe JSON client."""

    def __init__(self, api_client: Any) -> None:
        self._api = api_client

    @classmethod
    def connect(cls, kubeconfig: Path | None = None) -> Kube:
        """In the pod: its service account. Elsewhere: a kubeconfig. Raises KubeError."""
        from kubernetes import client, config

        configuration = client.Configuration()
        # Every watch holds a connection of its own; the rest is for status writes.
        configuration.connection_pool_maxsize = 16
        # Retries are ours: the watchers and writers back off by themselves.
        configuration.retries = False
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        except config.ConfigException as error:
            raise KubeError(status=0, message=str(error)) from error
        return cls(client.ApiClient(configuration))

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: object = None,
        content_type: str | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> Any:
        import urllib3
        from kubernetes.client.exceptions import OpenApiException

        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            method, url, headers, body, _ = self._api.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=(CONNECT_SECONDS, read_seconds)
            )
        except (OpenApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(status=getattr(error, "status", None) or 0, message=str(error)) from error
        response = answer.response
        if response.status >= 400:
            raise KubeError(status=response.status, message=_message(response))
        return response

    def _read(self, response: Any) -> Json:
        import urllib3

        try:
            document = json.loads(response.read())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise KubeError(status=0, message=f"unreadable answer: {error}") from error
        finally:
            response.release_conn()
        if not isinstance(document, dict):
            raise KubeError(status=0, message="the answer is not an object")
        return document

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Reads an object or a list. Raises KubeError."""
        return self._read(self._request("GET", path, query=query or {}))

    def watch(self, path: str, *, resource_version: str, seconds: int) -> EventStream:
        """Events after `resource_version`, for at most `seconds`. Raises KubeError."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        return EventStream(self._request("GET", path, query=query, read_seconds=seconds + READ_SECONDS))

    def create(self, path: str, body: object) -> Json:
        """Creates an object; what came of it. Raises KubeError."""
        return self._read(self._request("POST", path, query={}, body=body, content_type="application/json"))

    def patch(self, path: str, body: object, *, content_type: str = "application/merge-patch+json") -> Json:
        """Patches an object. Raises KubeError."""
        return self._read(self._request("PATCH", path, query={}, body=body, content_type=content_type))

    def close(self) -> None:
        """Closes the idle connections; a watch is ended by its own `stop`."""
        self._api.close()


def _message(response: Any) -> str:
    """What a Status says, or the raw text."""
    import urllib3

    try:
        raw = response.read()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return str(error)
    finally:
        response.close()
    try:
        return str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        return str(raw[:200].decode(errors="replace"))
