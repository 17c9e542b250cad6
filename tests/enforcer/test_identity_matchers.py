"""What identity conditions match, as a real Envoy judges real certificates."""

import json
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from enforcer.envoy_binary import find_envoy
from enforcer.mesh import Trust
from enforcer.policy import parse
from enforcer.rbac import network_filters
from tests.enforcer.peers import Signer

DEADLINE_SECONDS = 60
CLUSTER_LOCAL = Trust()

SLEEP = "cluster.local/ns/foo/sa/sleep"
SLEEP_B = "cluster.local/ns/foo/sa/sleep-b"
SLEEP_DOT = "cluster.local/ns/foo/sa/sleep.b"
BAR = "cluster.local/ns/bar/sa/sleep"
FOO_BAR = "cluster.local/ns/foo-bar/sa/foo"
OTHER = "other.org/ns/foo/sa/sleep"
ODD = "local/ns/sa/sa/ns"
PEERS = (SLEEP, SLEEP_B, SLEEP_DOT, BAR, FOO_BAR, OTHER, ODD)
PLAINTEXT = "plaintext"

FOO = {SLEEP, SLEEP_B, SLEEP_DOT, OTHER}
LOCAL = {SLEEP, SLEEP_B, SLEEP_DOT, BAR, FOO_BAR}

MATCHES: list[tuple[str, str, set[str]]] = [
    ("principals", SLEEP, {SLEEP}),
    ("principals", "cluster.local/ns/foo/*", {SLEEP, SLEEP_B, SLEEP_DOT}),
    ("principals", "cluster.local/ns/foo/sa/sleep*", {SLEEP, SLEEP_B, SLEEP_DOT}),
    ("principals", "*/ns/foo/sa/sleep", {SLEEP, OTHER}),
    ("principals", "*.b", {SLEEP_DOT}),
    ("principals", "*", set(PEERS)),
    ("principals", "*/cluster.local/ns/foo/sa/sleep", set()),
    ("principals", "cluster.local/ns/*/sa/sleep", set()),
    ("principals", "*sleep*", set()),
    ("principals", "cluster.local/ns/foo/sa/sleep.", set()),
    ("principals", "cluster.local/ns/foo/sa/slee", set()),
    ("principals", "Cluster.local/ns/foo/sa/sleep", set()),
    ("principals", f"spiffe://{SLEEP}", set()),
    ("principals", f"*spiffe://{SLEEP}", set()),
    ("principals", "spiffe://*", set()),
    ("principals", "*" + "a" * 3000, set()),
    ("namespaces", "foo", FOO),
    ("namespaces", "foo*", FOO | {FOO_BAR}),
    ("namespaces", "*bar", {BAR, FOO_BAR}),
    ("namespaces", "f*r", {FOO_BAR}),
    ("namespaces", "f*o", FOO),
    ("namespaces", "*", set(PEERS)),
    ("namespaces", "*sa", {ODD}),
    ("namespaces", "ns", set()),
    ("namespaces", "f.o", set()),
    ("namespaces", "foo|bar", set()),
    ("namespaces", "[a-z]+", set()),
    ("namespaces", "FOO", set()),
    ("namespaces", "foo/sa", set()),
    ("namespaces", "foo/*", set()),
    ("namespaces", "*" + "-long" * 40, set()),
    ("serviceAccounts", "sleep", {SLEEP, OTHER}),
    ("serviceAccounts", "foo/sleep", {SLEEP, OTHER}),
    ("serviceAccounts", "bar/sleep", {BAR}),
    ("serviceAccounts", "foo/sleep.b", {SLEEP_DOT}),
    ("serviceAccounts", "sleep-b", {SLEEP_B}),
    ("serviceAccounts", "foo/Sleep", set()),
    ("trustDomains", "cluster.local", LOCAL),
    ("trustDomains", "cluster*", LOCAL),
    ("trustDomains", "*.local", LOCAL),
    ("trustDomains", "*local", LOCAL | {ODD}),
    ("trustDomains", "*", set(PEERS)),
    ("trustDomains", "other.org", {OTHER}),
    ("trustDomains", "cluster", set()),
    ("trustDomains", "clusterxlocal", set()),
    ("trustDomains", "*ns", set()),
]

KEYS = {
    "principals": "source.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
}


def allow(name: str, rule: dict[str, Any], trust: Trust) -> list[dict[str, Any]]:
    document = {"metadata": {"name": name, "namespace": "foo"}, "spec": {"rules": [rule]}}
    return [MessageToDict(item) for item in network_filters([parse(document)], trust=trust)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A rule, and who is let in by it."""

    rule: dict[str, Any]
    expected: set[str]
    trust: Trust = CLUSTER_LOCAL
    server_name: str = "workload"


def forms(field: str, value: str, expected: set[str]) -> Iterator[Row]:
    """The field, the key under `when`, and the negation of either."""
    negative = "not" + field[0].upper() + field[1:]
    others = {*PEERS, PLAINTEXT} - expected
    yield Row(rule={"from": [{"source": {field: [value]}}]}, expected=expected)
    yield Row(rule={"when": [{"key": KEYS[field], "values": [value]}]}, expected=expected)
    yield Row(rule={"from": [{"source": {negative: [value]}}]}, expected=others)
    yield Row(rule={"when": [{"key": KEYS[field], "notValues": [value]}]}, expected=others)


def server_name(value: str, asked: str, *, matches: bool) -> Iterator[Row]:
    """Plaintext has no server name."""
    who = {SLEEP} if matches else set()
    yield Row(rule={"when": [{"key": "connection.sni", "values": [value]}]}, expected=who, server_name=asked)
    yield Row(
        rule={"when": [{"key": "connection.sni", "notValues": [value]}]},
        expected={SLEEP, PLAINTEXT} - who,
        server_name=asked,
    )


MIGRATED = Trust(domain="other.org", aliases=("old.org",))

IDENTITY_ROWS = [row for match in MATCHES for row in forms(*match)] + [
    Row(rule={"from": [{"source": source}]}, expected=expected, trust=MIGRATED)
    for source, expected in (
        ({"principals": [SLEEP]}, {OTHER}),
        ({"principals": ["old.org/ns/foo/sa/sleep"]}, {OTHER}),
        ({"principals": ["*old.org/ns/foo/sa/sleep"]}, {OTHER}),
        ({"principals": ["old.org/ns/foo/*"]}, set()),
        ({"principals": ["third.org/ns/foo/sa/sleep"]}, set()),
        ({"notPrincipals": ["old.org/ns/foo/sa/sleep"]}, {*PEERS, PLAINTEXT} - {OTHER}),
        ({"trustDomains": ["old.org"]}, {OTHER}),
        ({"trustDomains": ["old*"]}, set()),
        ({"trustDomains": ["cluster.local"]}, LOCAL),
    )
]

NAME_ROWS = [
    *server_name("www.example.com", "www.example.com", matches=True),
    *server_name("www.*", "www.example.com", matches=True),
    *server_name("*.com", "www.example.com", matches=True),
    *server_name("*", "www.example.com", matches=True),
    *server_name("www.example.com", "www.example.org", matches=False),
    *server_name("www.*.com", "www.example.com", matches=False),
    *server_name("www.example.com", "wwwxexample.com", matches=False),
]

ROWS = [*IDENTITY_ROWS, *NAME_ROWS]


def listener(path: Path, filters: list[dict[str, Any]], transport: dict[str, Any] | None) -> dict[str, Any]:
    echo = {
        "name": "echo",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
    }
    inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    return {
        "name": path.name,
        "address": {"pipe": {"path": str(path)}},
        "listener_filters": [{"name": "tls", "typed_config": {"@type": inspector}}] if transport else [],
        "filter_chains": [
            {"filters": [*filters, echo], **({"transport_socket": transport} if transport else {})}
        ],
    }


def transport_socket(signer: Signer) -> dict[str, Any]:
    chain, key = signer.issue("spiffe://cluster.local/ns/foo/sa/workload")
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"inline_string": chain.decode()},
                        "private_key": {"inline_string": key.decode()},
                    }
                ],
                "validation_context": {"trusted_ca": {"inline_string": signer.pem.decode()}},
            },
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An Envoy with two sockets for each row: `<index>-tls` and `<index>-plain`."""

    folder: Path
    contexts: dict[str, ssl.SSLContext]

    def lets_in(self, index: int, peer: str) -> bool:
        plain = peer == PLAINTEXT
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(DEADLINE_SECONDS)
            raw.connect(str(self.folder / f"{index}-{'plain' if plain else 'tls'}"))
            if plain:
                return answers(raw)
            with self.contexts[peer].wrap_socket(raw, server_hostname=ROWS[index].server_name) as connection:
                return answers(connection)


def answers(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"hello\n")
        return connection.recv(64) == b"hello\n"
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        return False


@pytest.fixture(scope="module")
def workload() -> Iterator[Workload]:
    signer = Signer()
    transport = transport_socket(signer)
    # A folder of its own: a Unix socket's path must be short.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listeners = []
        for index, row in enumerate(ROWS):
            filters = allow(f"row-{index}", row.rule, row.trust)
            listeners.append(listener(folder / f"{index}-tls", filters, transport))
            listeners.append(listener(folder / f"{index}-plain", filters, None))
        bootstrap = folder / "envoy.json"
        bootstrap.write_text(json.dumps({"static_resources": {"listeners": listeners}}))
        arguments = ["--config-path", str(bootstrap), "--disable-hot-restart", "--concurrency", "1"]
        with subprocess.Popen(
            [find_envoy(), *arguments, "--log-level", "info"], stderr=subprocess.PIPE, text=True
        ) as envoy:
            try:
                assert envoy.stderr is not None
                for line in envoy.stderr:
                    if "starting workers" in line:
                        break
                else:
                    pytest.fail("Envoy did not start")
                contexts = {peer: signer.client_context(f"spiffe://{peer}", folder) for peer in PEERS}
                yield Workload(folder=folder, contexts=contexts)
            finally:
                envoy.kill()


@pytest.mark.parametrize("index", range(len(IDENTITY_ROWS)), ids=[str(row.rule) for row in IDENTITY_ROWS])
def test_who_is_let_in(workload: Workload, index: int) -> None:
    observed = {peer for peer in (*PEERS, PLAINTEXT) if workload.lets_in(index, peer)}
    assert observed == ROWS[index].expected


@pytest.mark.parametrize(
    "index",
    range(len(IDENTITY_ROWS), len(ROWS)),
    ids=[f"{row.rule} {row.server_name}" for row in NAME_ROWS],
)
def test_which_server_names_are_let_in(workload: Workload, index: int) -> None:
    observed = {peer for peer in (SLEEP, PLAINTEXT) if workload.lets_in(index, peer)}
    assert observed == ROWS[index].expected
