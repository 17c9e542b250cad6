"""Access logs as they are on disk: the bundled enforcer's, and Istio's in text and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.attribution import AccessBook, parse_line
from conformance.evidence import AccessEntry

LOGS = Path(__file__).parent / "access_logs"
ECHO = "tcp-echo.foo"


def entries(name: str) -> list[AccessEntry]:
    found = (parse_line(ECHO, line) for line in (LOGS / name).read_bytes().splitlines())
    return [entry for entry in found if entry is not None]


def told(entry: AccessEntry) -> tuple[str, int, str]:
    return entry.source_ip, entry.destination_port, entry.describe()


@pytest.mark.parametrize("name", ["istio.txt", "istio.json"])
def test_istio_names_the_rule_of_a_denial_and_none_of_an_allowed_connection(name: str) -> None:
    found = entries(name)
    assert [told(entry) for entry in found] == [
        ("10.244.0.11", 9000, "denied, matched no policy"),
        ("10.244.0.11", 9001, "denied by foo/deny-9001 rule 1"),
        ("10.244.0.12", 9000, "allowed, by which rule is not told"),
        (
            "10.244.0.13",
            9000,
            "refused before any policy was asked: no filter chain takes it: mutual TLS is demanded, or "
            "nothing listens",
        ),
        ("fd00::1:b", 9002, "denied, matched no policy"),
        ("fd00::1:c", 9000, "allowed, by which rule is not told"),
    ]
    assert not any(entry.names_allows for entry in found)


def test_the_bundled_enforcers_log_names_both() -> None:
    assert [told(entry) for entry in entries("bundled.json")] == [
        ("10.244.0.11", 9000, "allowed by foo/allow rule 0"),
        ("10.244.0.11", 9001, "denied, matched no policy"),
        ("10.244.0.12", 9001, "denied by foo/deny rule 2"),
        ("10.244.0.13", 9000, "refused before any policy was asked: the workload takes mutual TLS only"),
        ("fd00::1:b", 9000, "allowed, matched no policy"),
    ]


def test_a_book_keeps_the_paths_of_both_formats_apart() -> None:
    book = AccessBook()
    read = book.reader(ECHO)
    for line in (LOGS / "istio.txt").read_bytes().splitlines():
        read(line)
    assert book.count((ECHO, "10.244.0.11", 9000)) == 1
    assert book.count((ECHO, "fd00::1:b", 9002)) == 1
    assert book.count((ECHO, "10.244.0.14", 8080)) == 0  # a request of HTTP


@pytest.mark.parametrize("line", [b"", b"\xff\xfe", b"{", b"[]", b"null", b'{"log": 1}', b"[x] y"])
def test_other_lines_are_nobodys(line: bytes) -> None:
    assert parse_line(ECHO, line) is None


def test_both_encodings_of_istio_are_of_one_mind() -> None:
    assert entries("istio.txt") == entries("istio.json")
    assert all(json.loads(line) for line in (LOGS / "istio.json").read_text().splitlines() if line[:1] == "{")
