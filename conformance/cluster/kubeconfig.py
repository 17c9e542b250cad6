"""A kubeconfig file as a client configuration, without temporary files on disk.

The `kubernetes` client writes embedded certificates to temporary files, which a killed run would leave
behind; here they go to anonymous memory.
"""

from __future__ import annotations

import base64
import binascii
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from kubernetes import client, config
from kubernetes.config import ConfigException
from urllib3 import Retry

from conformance.errors import InputError

__all__ = ["describe_context", "load_client"]

EMBEDDED = ("certificate-authority", "client-certificate", "client-key")
FILES = (*EMBEDDED, "tokenFile")
_memory_files: dict[bytes, str] = {}


def load_client(kubeconfig: Path, context: str | None) -> client.ApiClient:
    """Raises InputError where the file or the context cannot be used."""
    content = _read(kubeconfig)
    _find_context(kubeconfig, content, context)
    for section, entry in (("clusters", "cluster"), ("users", "user")):
        for item in content[section]:
            settings = item.get(entry) or {}
            for key in FILES:
                if isinstance(settings.get(key), str):
                    settings[key] = str(kubeconfig.parent / settings[key])
            for key in EMBEDDED:
                data = settings.pop(f"{key}-data", None)
                if data is not None:
                    settings[key] = _in_memory(_decode(kubeconfig, f"{key}-data", data))
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = 32
    # A connection that was closed while nobody used it is opened anew; any answer is for the caller.
    configuration.retries = Retry(
        connect=1, read=1, redirect=0, status=0, other=0, respect_retry_after_header=False
    )
    try:
        config.load_kube_config_from_dict(
            content, context=context, client_configuration=configuration, persist_config=False
        )
    except (ConfigException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the kubeconfig {kubeconfig} cannot be used: {error}") from None
    if not configuration.host.startswith(("https://", "http://")):
        raise InputError(f"the kubeconfig {kubeconfig} cannot be used: its cluster has no server address")
    host = urlsplit(configuration.host).hostname or ""
    if _is_loopback(host):
        # A proxy from the environment is not for this machine. The client's two transports (requests, and the
        # WebSockets of exec) agree on this setting alone.
        configuration.no_proxy = ",".join(filter(None, (configuration.no_proxy, host)))
    return client.ApiClient(configuration)


def describe_context(kubeconfig: Path, context: str | None) -> str:
    """`context name (server)` for headers and reports."""
    content = _read(kubeconfig)
    chosen = _find_context(kubeconfig, content, context)
    cluster_name = (chosen.get("context") or {}).get("cluster")
    cluster: dict[str, Any] = next(
        (item for item in content["clusters"] if item.get("name") == cluster_name), {}
    )
    server = (cluster.get("cluster") or {}).get("server", "no server")
    return f"context {chosen.get('name')} ({server})"


def _find_context(kubeconfig: Path, content: dict[str, Any], context: str | None) -> dict[str, Any]:
    name = context or content.get("current-context")
    known = {item.get("name"): item for item in content["contexts"]}
    if name in known:
        return dict(known[name])
    hint = f"--context, one of: {', '.join(map(str, known)) or 'none'}"
    if not name:
        raise InputError(f"the kubeconfig {kubeconfig} has no current context", hint=hint)
    raise InputError(f"the kubeconfig {kubeconfig} has no context {name!r}", hint=hint)


def _decode(kubeconfig: Path, key: str, data: object) -> bytes:
    try:
        return base64.b64decode("".join(str(data).split()), validate=True)
    except binascii.Error:
        raise InputError(f"the kubeconfig {kubeconfig} cannot be used: {key} is not base64") from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _read(kubeconfig: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the kubeconfig {kubeconfig} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the kubeconfig {kubeconfig} is not YAML: it is no UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"the kubeconfig {kubeconfig} is not YAML{line}") from None
    if not isinstance(content, dict):
        raise InputError(f"{kubeconfig} is no kubeconfig: it is not a mapping")
    for section in ("clusters", "contexts", "users"):
        content[section] = content.get(section) or []
        if not isinstance(content[section], list) or not all(isinstance(i, dict) for i in content[section]):
            raise InputError(f"{kubeconfig} is no kubeconfig: {section} is not a list of mappings")
    return content


def _in_memory(data: bytes) -> str:
    """A path that this process can open again and again; it vanishes with the process."""
    if data not in _memory_files:
        descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
        os.write(descriptor, data)
        _memory_files[data] = f"/proc/self/fd/{descriptor}"
    return _memory_files[data]
