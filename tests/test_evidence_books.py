"""The backends' logs, the access logs and the barrier, fed by hand."""

from __future__ import annotations

import json
import queue
import time
from datetime import UTC, datetime

import pytest

from conformance.attribution import AccessBook, parse_entry
from conformance.barrier import Changes, EnforcerStatus
from conformance.cluster.kube import ObjectKey
from conformance.errors import ProbeError, SetupError
from conformance.logbook import LogBook

NONCE = "n0123456789abcdef"
LINE = f"port 9000 {NONCE}"


def log(text: str, *, port: int = 9000) -> dict[str, object]:
    return {"log": "connection", "port": port, "text": text, "bytes": len(text)}


def test_a_nonce_is_found_in_the_log_that_has_it() -> None:
    book = LogBook()
    book.reader("tcp-echo.foo")(log(LINE))
    testimony = book.testimony(nonce=NONCE, line=LINE, port=9000, incomplete="")
    assert (testimony.seen_in, testimony.complete) == (("tcp-echo.foo",), True)
    assert book.wait_for({NONCE: "tcp-echo.foo"}, deadline=0) == set()
    assert book.wait_for({NONCE: "tcp-echo.bar"}, deadline=0) == {"tcp-echo.bar"}


def test_the_beginning_of_a_line_counts_as_its_bytes() -> None:
    book = LogBook()
    book.reader("tcp-echo.foo")(log("port 90"))
    assert book.testimony(nonce=NONCE, line=LINE, port=9000, incomplete="").seen_in == ("tcp-echo.foo",)
    assert book.testimony(nonce=NONCE, line=LINE, port=9001, incomplete="").seen_in == ()


def test_a_connection_without_bytes_is_nobodys() -> None:
    book = LogBook()
    book.reader("tcp-echo.foo")(log(""))
    assert book.testimony(nonce=NONCE, line=LINE, port=9000, incomplete="").seen_in == ()


def test_incomplete_logs_prove_no_absence() -> None:
    testimony = LogBook().testimony(nonce=NONCE, line=LINE, port=9000, incomplete="the log ended")
    assert (testimony.complete, testimony.why) == (False, "the log ended")


def access(**changed: object) -> dict[str, object]:
    return {
        "log": "access",
        "direction": "inbound",
        "source_ip": "10.0.0.1",
        "destination_port": 9000,
        "termination_details": None,
        "allowed_by": None,
    } | changed


@pytest.mark.parametrize(
    ("changed", "denied", "policy", "rule"),
    [
        ({"allowed_by": "ns[foo]-policy[a]-rule[1]"}, False, "foo/a", 1),
        ({"allowed_by": "none"}, False, "", None),
        ({"termination_details": "rbac_access_denied_matched_policy[none]"}, True, "", None),
        (
            {"termination_details": "rbac_access_denied_matched_policy[ns[foo]-policy[d]-rule[0]]"},
            True,
            "foo/d",
            0,
        ),
    ],
)
def test_who_decided(changed: dict[str, object], denied: bool, policy: str, rule: int | None) -> None:
    entry = parse_entry("tcp-echo.foo", access(**changed))
    assert entry is not None
    assert (entry.denied, entry.policy, entry.rule) == (denied, policy, rule)


def test_dry_run_results_are_read() -> None:
    shadow = {"allow_result": "denied", "deny_result": "allowed", "deny_policy": "ns[f]-policy[d]-rule[0]"}
    entry = parse_entry("tcp-echo.foo", access(dry_run=shadow))
    assert entry is not None
    assert (entry.dry_run_allow, entry.dry_run_deny) == ("denied", "allowed")
    assert (entry.dry_run_allow_policy, entry.dry_run_deny_policy) == ("", "f/d")
    assert entry.audited_by == ""


ASKED = "istio-ext-authz-some-provider-ns[f]-policy[c]-rule[1]"


@pytest.mark.parametrize("details", ["ext_authz_denied", "ext_authz_error"])
def test_what_an_external_authorizer_ended_is_a_denial_by_the_rule_that_asked(details: str) -> None:
    line = access(response_flags="UAEX", response_details=details, custom_policy=ASKED, allowed_by=None)
    entry = parse_entry("tcp-echo.foo", line)
    assert entry is not None
    assert (entry.denied, entry.policy, entry.rule, entry.authorizer) == (True, "f/c", 1, details)
    assert entry.termination_details == f"{details}[{ASKED}]"
    assert entry.describe() == f"denied by an external authorizer ({details}) for f/c rule 1"


def test_what_an_external_authorizer_admitted_is_not_its_decision() -> None:
    line = access(custom_policy=ASKED, allowed_by="ns[f]-policy[a]-rule[0]", response_details=None)
    entry = parse_entry("tcp-echo.foo", line)
    assert entry is not None
    assert (entry.denied, entry.policy, entry.authorizer) == (False, "f/a", "")


def test_a_rule_that_denies_because_nobody_can_be_asked_is_named() -> None:
    details = f"rbac_access_denied_matched_policy[{ASKED}-deny-due-to-bad-CUSTOM-action]"
    entry = parse_entry("tcp-echo.foo", access(termination_details=details))
    assert entry is not None
    assert (entry.denied, entry.policy, entry.rule, entry.authorizer) == (True, "f/c", 1, "")


def test_the_audit_policy_is_read() -> None:
    entry = parse_entry("tcp-echo.foo", access(audit_policy="ns[f]-policy[a]-rule[0]"))
    assert entry is not None
    assert (entry.audited_by, entry.policy) == ("f/a", "")


def test_only_inbound_lines_count_and_they_are_counted_per_path() -> None:
    book = AccessBook()
    read = book.reader("tcp-echo.foo")
    path = ("tcp-echo.foo", "10.0.0.1", 9000)
    for line in (access(), access(direction="outbound"), access(destination_port=9001), {"log": "other"}):
        read(json.dumps(line).encode())
    assert book.count(path) == 1
    assert book.wait_for({path: 1}, deadline=0)
    assert not book.wait_for({path: 2}, deadline=0)
    assert book.since(path, 1) == ()


class Status:
    """A status stream fed by the test."""

    def __init__(self, *states: dict[str, object]) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        for state in states:
            self.lines.put(json.dumps(state))
        self.broken = False

    def poll(self, deadline: float) -> str | None:
        if self.broken:
            raise ProbeError("the command ended")
        try:
            return self.lines.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            return None

    def close(self) -> None:
        return


def key(name: str, kind: str = "AuthorizationPolicy", *, version: str = "v1") -> ObjectKey:
    return ObjectKey(api_version=version, kind=kind, resource="x", namespace="foo", name=name)


def state(objects: dict[str, str], *, in_sync: bool = True, connected: bool = True) -> dict[str, object]:
    sidecars = {"foo/pod": {"snapshot": 1, "in_sync": in_sync, "nack": None, "connected": connected}}
    return {"snapshot": 1, "objects": objects, "sidecars": sidecars, "rejected": {}}


@pytest.mark.parametrize(
    ("told", "changes", "landed"),
    [
        (state({"AuthorizationPolicy/foo/p": "9"}), Changes(written={key("p"): "9"}), True),
        (state({"AuthorizationPolicy/foo/p": "10"}), Changes(written={key("p"): "9"}), True),
        (state({"AuthorizationPolicy/foo/p": "8"}), Changes(written={key("p"): "9"}), False),
        (state({}), Changes(written={key("p"): "9"}), False),
        (state({"AuthorizationPolicy/foo/p": "9"}, in_sync=False), Changes(written={key("p"): "9"}), False),
        (state({"AuthorizationPolicy/foo/p": "9"}), Changes(deleted=(key("p"),)), False),
        (state({}), Changes(deleted=(key("p"),)), True),
        # What nothing tells of is not proven.
        (state({}), Changes(written={key("p", "VirtualService"): "9"}), False),
        (state({}), Changes(deleted=(key("p", "VirtualService"),)), False),
        # An acknowledgement of a sidecar that has gone since.
        (state({}, connected=False), Changes(), False),
        # Deleted in one API version, written again in another: one object.
        (
            state({"AuthorizationPolicy/foo/p": "9"}),
            Changes(written={key("p"): "9"}, deleted=(key("p", version="v1beta1"),)),
            True,
        ),
        # Processed, but refused by the enforcer: it never lands.
        (
            state({"AuthorizationPolicy/foo/p": "9"}) | {"rejected": {"AuthorizationPolicy/foo/p": "mtls"}},
            Changes(written={key("p"): "9"}),
            False,
        ),
    ],
)
def test_what_has_landed(told: dict[str, object], changes: Changes, landed: bool) -> None:
    barrier = EnforcerStatus(Status(told), awaited_kinds=["AuthorizationPolicy"])
    barrier.await_first(60)
    waited = barrier.wait(changes, pods=["foo/pod"], timeout=0.05)
    assert waited.landed is landed, waited.detail
    barrier.close()


def test_a_later_line_lands_it() -> None:
    stream = Status(state({}))
    barrier = EnforcerStatus(stream, awaited_kinds=["AuthorizationPolicy"])
    barrier.await_first(60)
    stream.lines.put(json.dumps(state({"AuthorizationPolicy/foo/p": "9"})))
    assert barrier.wait(Changes(written={key("p"): "9"}), pods=[], timeout=60).landed
    barrier.close()


def test_a_sidecar_that_is_not_connected_has_not_landed() -> None:
    barrier = EnforcerStatus(Status(state({})), awaited_kinds=[])
    barrier.await_first(60)
    assert "not connected" in barrier.wait(Changes(), pods=["foo/other"], timeout=0.05).detail
    barrier.close()


def test_a_broken_stream_proves_nothing() -> None:
    stream = Status()
    stream.broken = True
    barrier = EnforcerStatus(stream, awaited_kinds=[])
    with pytest.raises(SetupError, match="the command ended"):
        barrier.await_first(60)
    assert not barrier.wait(Changes(written={key("p"): "1"}), pods=[], timeout=60).landed
    barrier.close()


def test_what_is_closed_proves_nothing() -> None:
    barrier = EnforcerStatus(Status(state({})), awaited_kinds=[])
    barrier.await_first(60)
    assert barrier.wait(Changes(), pods=["foo/pod"], timeout=60).landed
    barrier.close()
    assert not barrier.wait(Changes(), pods=["foo/pod"], timeout=60).landed
    assert barrier.broken


@pytest.mark.parametrize("last", ["", "5", "{}", '{"objects": {}}'])
def test_a_stream_that_ended_proves_nothing_of_what_came_after(last: str) -> None:
    stream = Status(state({}))
    barrier = EnforcerStatus(stream, awaited_kinds=["AuthorizationPolicy"])
    barrier.await_first(60)
    assert barrier.wait(Changes(), pods=["foo/pod"], timeout=60).landed
    if last:
        stream.lines.put(last)  # not a status
    else:
        stream.broken = True
    deadline = time.monotonic() + 60
    while barrier.wait(Changes(), pods=["foo/pod"], timeout=0).landed:
        assert time.monotonic() < deadline, "the reader never noticed"
    barrier.close()


def test_an_owed_entry_that_comes_late_is_nobodys() -> None:
    book = AccessBook()
    read, path = book.reader("tcp-echo.foo"), ("tcp-echo.foo", "10.244.0.11", 9000)

    def told(**fields: object) -> None:
        entry = {"log": "access", "direction": "inbound", "source_ip": path[1], "destination_port": path[2]}
        read(json.dumps(entry | fields).encode())

    long_ago, now = (datetime.fromtimestamp(t, UTC).isoformat() for t in (time.time() - 60, time.time()))
    book.forget({path: 1})
    told(time=long_ago)
    assert book.count(path) == 0  # the owed one
    told(time=long_ago)
    told(time=now)
    assert book.count(path) == 2  # no more is owed, whatever a clock says
    book.forget({path: 3})
    assert book.unsure() == frozenset()
    told()
    assert book.unsure() == {path}  # its log does not tell when a connection began
    book.write_off("tcp-echo.foo")
    assert book.unsure() == frozenset()
