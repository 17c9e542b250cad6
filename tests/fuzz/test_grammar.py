"""What is drawn: valid, within the mesh's features, over the whole grammar, the same for the same seed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.errors import InputError
from conformance.foresight import resolve
from conformance.fuzz.cases import PolicySet
from conformance.fuzz.grammar import Drawing, draw_sets
from conformance.oracle import validate
from conformance.scenario import FEATURES

EVERYTHING = frozenset(FEATURES)
MANY = draw_sets(1, 400, EVERYTHING)


def documents(drawn: tuple[PolicySet, ...]) -> Iterator[Any]:
    for one in drawn:
        yield from one.documents


def test_the_same_seed_draws_the_same_documents() -> None:
    assert draw_sets(7, 30, EVERYTHING) == draw_sets(7, 30, EVERYTHING)
    assert draw_sets(7, 30, EVERYTHING) != draw_sets(8, 30, EVERYTHING)


def test_a_run_draws_the_same_documents_whatever_else_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for hash_seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        drawn.append(tuple(Drawing(7, 30, EVERYTHING).sets()))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 30


def test_what_cannot_be_drawn_is_told() -> None:
    drawing = Drawing(7, 0, EVERYTHING)
    with pytest.raises(InputError, match="no policies could be drawn"):
        next(drawing.sets())


def test_every_document_is_one_that_the_api_takes() -> None:
    for document in documents(MANY):
        validate(resolve(dict(document)))


def test_no_two_documents_of_a_set_share_their_name() -> None:
    for drawn in MANY:
        names = [(item["kind"], item["metadata"]["name"]) for item in drawn.documents]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "word",
    [
        '"ALLOW"', '"DENY"', '"AUDIT"', '"from"', '"to"', '"when"', '"ports"', '"notPorts"', '"principals"',
        '"notPrincipals"', '"namespaces"', '"notNamespaces"', '"serviceAccounts"', '"notServiceAccounts"',
        '"trustDomains"', '"notTrustDomains"', '"ipBlocks"', '"notIpBlocks"', '"remoteIpBlocks"',
        '"notRemoteIpBlocks"', '"methods"', '"notPaths"', '"hosts"', '"requestPrincipals"',
        '"source.principal"', '"source.namespace"', '"source.serviceAccount"', '"source.trustDomain"',
        '"source.ip"', '"remote.ip"', '"destination.ip"', '"destination.port"', '"connection.sni"',
        '"request.auth.principal"', '"request.headers[x-user]"', '"notValues"', '"selector"', '"targetRefs"',
        '"istio.io/dry-run"', '"${bar}"', '"${root}"', '"PeerAuthentication"', '"portLevelMtls"', '"STRICT"',
        '"DISABLE"', '"security.istio.io/v1beta1"', '"spec": null', '"rules": [{}', '"from": []',
    ],
)  # fmt: skip
def test_the_whole_grammar_is_drawn(word: str) -> None:
    assert word in json.dumps([one.documents for one in MANY])


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("mesh-wide", ['"namespace": "${root}"']),
        ("dry-run", ["istio.io/dry-run"]),
        ("audit", ["AUDIT"]),
        ("peer-authentication", ["PeerAuthentication"]),
        ("trust-domain-alias", ["alias.example"]),
        ("mtls", ["principals", "PeerAuthentication", "source.namespace", "connection.sni"]),
    ],
)
def test_what_a_mesh_does_not_have_is_not_drawn(feature: str, words: list[str]) -> None:
    drawn = json.dumps([one.documents for one in draw_sets(1, 80, EVERYTHING - {feature})])
    assert [word for word in words if word in drawn] == []


def test_only_our_own_namespaces_are_written_to() -> None:
    places = {document["metadata"]["namespace"] for document in documents(MANY)}
    assert places == {"${foo}", "${bar}", "${root}"}
