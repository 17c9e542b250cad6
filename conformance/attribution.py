"""Who decided: the sidecars' access logs, followed while a case runs.

The outbound sidecar hides the client's source port, so entries are counted per source address and
destination port within a step. The bundled enforcer's log and Istio's (text or JSON) are told apart line by
line; a denial is told by its termination details, as in Envoy and Istio.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from conformance.access_log_text import DENIED, REFUSALS, moment, named, parse_fields, parse_text
from conformance.evidence import AccessEntry

__all__ = ["UNKNOWN_MANY", "AccessBook", "Path", "parse_entry", "parse_line"]

# (workload, source address, the workload's port)
Path = tuple[str, str, int]
# Where a prober cannot tell how many connections it made, the access log is read until its deadline.
UNKNOWN_MANY = 1_000_000
# Seconds by which a sidecar's clock may be before ours; less than an entry is waited for.
CLOCKS = 2.0


def parse_line(workload: str, line: bytes) -> AccessEntry | None:
    """An inbound connection's entry in any of the known formats; None for any other line."""
    text = line.decode(errors="replace").strip()
    if not text.startswith("{"):
        return parse_text(workload, text)
    try:
        value = json.loads(text)
    except ValueError:
        return None  # a log may say other things, too
    if not isinstance(value, dict):
        return None
    return parse_fields(workload, value) if "upstream_cluster" in value else parse_entry(workload, value)


def parse_entry(workload: str, line: Mapping[str, Any]) -> AccessEntry | None:
    """An inbound connection's entry of the bundled enforcer; None for any other line."""
    if line.get("log") != "access" or line.get("direction") != "inbound":
        return None
    details = str(line.get("termination_details") or "")
    denied = DENIED.search(details)
    # Envoy's flag for a connection that an external authorizer denied, or did not answer for.
    by_authorizer = "UAEX" in str(line.get("response_flags") or "").split(",")
    authorizer = str(line.get("response_details") or "UAEX") if by_authorizer else ""
    decider = line.get("custom_policy") if authorizer else line.get("allowed_by")
    policy, rule = named(denied["name"] if denied else decider)
    shadow = line.get("dry_run") or {}
    return AccessEntry(
        workload=workload,
        source_ip=str(line.get("source_ip", "")),
        destination_port=int(line.get("destination_port") or 0),
        denied=denied is not None or by_authorizer,
        authorizer=authorizer,
        policy=policy,
        rule=rule,
        dry_run_allow=str(shadow.get("allow_result") or ""),
        dry_run_deny=str(shadow.get("deny_result") or ""),
        dry_run_allow_policy=named(shadow.get("allow_policy"))[0],
        dry_run_deny_policy=named(shadow.get("deny_policy"))[0],
        audited_by=named(line.get("audit_policy"))[0],
        refused=REFUSALS.get(details, ""),
        termination_details=f"{authorizer}[{decider}]" if authorizer else details,
        started=moment(line.get("time")),
    )


class AccessBook:
    """Entries per path, in the order they were logged."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[Path, list[AccessEntry]] = {}
        self._owed: dict[Path, int] = {}
        self._older = 0.0  # what started before this is of connections made before `forget`
        self._timeless = False  # an entry came that does not tell when it started

    def reader(self, workload: str) -> Callable[[bytes], None]:
        """What a Tail of that workload's sidecar calls for each line."""

        def read(line: bytes) -> None:
            entry = parse_line(workload, line)
            if entry is None:
                return
            path = (workload, entry.source_ip, entry.destination_port)
            with self._changed:
                self._timeless = self._timeless or entry.started is None
                if self._owed.get(path) and entry.started is not None and entry.started < self._older:
                    self._owed[path] -= 1
                    return
                self._entries.setdefault(path, []).append(entry)
                self._changed.notify_all()

        return read

    def count(self, path: Path) -> int:
        with self._changed:
            return len(self._entries.get(path, ()))

    def wait_for(self, counts: Mapping[Path, int], *, deadline: float) -> bool:
        """Whether each path has at least that many entries by `deadline` (of time.monotonic)."""
        with self._changed:
            while True:
                if all(len(self._entries.get(path, ())) >= wanted for path, wanted in counts.items()):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)

    def since(self, path: Path, start: int) -> tuple[AccessEntry, ...]:
        """The entries of a path from its `start`-th connection on."""
        with self._changed:
            return tuple(self._entries.get(path, ())[start:])

    def forget(self, sent: Mapping[Path, int] | None = None) -> None:
        """Between cases, together with the counts of what was `sent`. Entries of it that have not come are
        owed: when they come they are known by their start, and are nobody's."""
        with self._changed:
            paths = {*(sent or ()), *self._owed}
            missing = {
                path: self._owed.get(path, 0) + (sent or {}).get(path, 0) - len(self._entries.get(path, ()))
                for path in paths
            }
            self._owed = {path: count for path, count in missing.items() if count > 0}
            self._older = time.time() - CLOCKS
            self._entries.clear()

    def write_off(self, workload: str) -> None:
        """The workload's log is another one now: what is owed will not come."""
        with self._changed:
            self._owed = {path: count for path, count in self._owed.items() if path[0] != workload}

    def unsure(self) -> frozenset[Path]:
        """Paths on which an owed entry could not be told from a new one."""
        with self._changed:
            return frozenset(path for path, count in self._owed.items() if count and self._timeless)
