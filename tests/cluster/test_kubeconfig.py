"""Kubeconfig files as a client configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import urllib3

from conformance.cluster.existing import from_environment
from conformance.cluster.kubeconfig import load_client
from conformance.errors import InputError


def client_of(server: str, folder: Path) -> Any:
    file = folder / "kubeconfig"
    file.write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        f"clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )
    return load_client(file, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("exceptions", ["", "elsewhere.example"])
def test_this_machine_is_never_reached_through_a_proxy(
    host: str, exceptions: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)
    client = client_of(f"https://{host}:6443", tmp_path)
    assert not isinstance(client.rest_client.pool_manager, urllib3.ProxyManager)
    assert host in client.configuration.no_proxy.split(",")  # what exec's WebSocket goes by


def test_another_machine_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = client_of("https://cluster.example:6443", tmp_path)
    assert isinstance(client.rest_client.pool_manager, urllib3.ProxyManager)


def test_a_cluster_without_a_server_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its cluster has no server address"):
        client_of("", tmp_path)


def test_several_files_in_the_environment_are_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    with pytest.raises(InputError, match="KUBECONFIG names 2 files"):
        from_environment()
