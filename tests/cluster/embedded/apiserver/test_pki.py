"""The authority and its certificates, by a real TLS handshake."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
from pathlib import Path

import pytest

from conformance.cluster.embedded.apiserver.pki import Authority, kubeconfig, server_context


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    def served(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(served, "127.0.0.1", 0, ssl=server)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        writer.close()


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "10.96.0.1", "169.254.1.1", "kubernetes.default.svc", "localhost"]
)
def test_the_server_is_who_its_clients_call_it(tmp_path: Path, name: str) -> None:
    authority = Authority.create()
    server = server_context(authority.issue_server(), tmp_path)
    client = ssl.create_default_context(cadata=authority.certificate)
    asyncio.run(handshake(server, client, name))


def test_other_names_and_other_authorities_are_refused(tmp_path: Path) -> None:
    authority = Authority.create()
    server = server_context(authority.issue_server(), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(
            handshake(server, ssl.create_default_context(cadata=authority.certificate), "example.org")
        )
    stranger = Authority.create().certificate
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(handshake(server, ssl.create_default_context(cadata=stranger), "localhost"))


def test_the_key_is_private(tmp_path: Path) -> None:
    server_context(Authority.create().issue_server(), tmp_path)
    assert stat.S_IMODE((tmp_path / "apiserver.key").stat().st_mode) == 0o600


def test_a_kubeconfig_names_server_authority_and_token() -> None:
    document = json.loads(kubeconfig(server="https://127.0.0.1:1", ca="PEM", token="t"))
    cluster = document["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"PEM"
    assert document["users"][0]["user"] == {"token": "t"}
    assert document["contexts"][0]["name"] == document["current-context"]
