"""A kubeconfig file as a client configuration, without temporary files on disk.

The `kubernetes` client writes embedded certificates to temporary files, which a killed run would leave
behind; here they go to anonymous memory.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.config import ConfigException

from conformance.errors import InputError

__all__ = ["describe_context", "load_client"]

EMBEDDED = ("certificate-authority", "client-certificate", "client-key")
FILES = (*EMBEDDED, "tokenFile")
_memory_files: dict[bytes, str] = {}


def load_client(kubeconfig: Path, context: str | None) -> client.ApiClient:
    """Raises InputError where the file or the context cannot be used."""
    content = _read(kubeconfig)
    for section, entry in (("clusters", "cluster"), ("users", "user")):
        for item in content.get(section) or []:
            settings = item.get(entry) or {}
            for key in FILES:
                if isinstance(settings.get(key), str):
                    settings[key] = str(kubeconfig.parent / settings[key])
            for key in EMBEDDED:
                data = settings.pop(f"{key}-data", None)
                if data is not None:
                    settings[key] = _in_memory(base64.b64decode(data))
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = 32
    try:
        config.load_kube_config_from_dict(
            content, context=context, client_configuration=configuration, persist_config=False
        )
    except (ConfigException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the kubeconfig {kubeconfig} cannot be used: {error}") from None
    return client.ApiClient(configuration)


def describe_context(kubeconfig: Path, context: str | None) -> str:
    """`context name (server)` for headers and reports."""
    content = _read(kubeconfig)
    name = context or content.get("current-context") or ""
    chosen: dict[str, Any] = next(
        (item for item in content.get("contexts") or [] if item.get("name") == name), {}
    )
    cluster_name = (chosen.get("context") or {}).get("cluster")
    cluster: dict[str, Any] = next(
        (item for item in content.get("clusters") or [] if item.get("name") == cluster_name), {}
    )
    return f"context {name or '(none)'} ({(cluster.get('cluster') or {}).get('server', 'no server')})"


def _read(kubeconfig: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the kubeconfig {kubeconfig} cannot be read: {error.strerror}") from None
    except yaml.YAMLError:
        raise InputError(f"the kubeconfig {kubeconfig} is not YAML") from None
    if not isinstance(content, dict):
        raise InputError(f"the kubeconfig {kubeconfig} is empty")
    return content


def _in_memory(data: bytes) -> str:
    """A path that this process can open again and again; it vanishes with the process."""
    if data not in _memory_files:
        descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
        os.write(descriptor, data)
        _memory_files[data] = f"/proc/self/fd/{descriptor}"
    return _memory_files[data]
