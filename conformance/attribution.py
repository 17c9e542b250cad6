"""Who decided: the sidecars' access logs, followed while a case runs.

The outbound sidecar hides the client's source port, so entries are counted per source address and
destination port within a step. Fields are those of the bundled enforcer's access log; a denial is told by
its termination details, as in Envoy and Istio.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from conformance.evidence import AccessEntry

__all__ = ["AccessBook", "Path", "parse_entry"]

MATCHED = re.compile(r"ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<policy>[^\]]*)\]-rule\[(?P<rule>\d+)\]")
# Termination details of connections that never came to the policies, and what they mean.
REFUSALS = {"mutual_tls_required": "the workload takes mutual TLS only"}
DENIED = re.compile(r"rbac_access_denied_matched_policy\[(?P<name>.*)\]")

# (workload, source address, the workload's port)
Path = tuple[str, str, int]


def _named(text: object) -> tuple[str, int | None]:
    """(namespace/name, rule) of `ns[a]-policy[b]-rule[0]`; ("", None) for none."""
    match = MATCHED.search(text) if isinstance(text, str) else None
    return (f"{match['namespace']}/{match['policy']}", int(match["rule"])) if match else ("", None)


def parse_entry(workload: str, line: Mapping[str, Any]) -> AccessEntry | None:
    """An inbound connection's entry; None for any other line."""
    if line.get("log") != "access" or line.get("direction") != "inbound":
        return None
    details = str(line.get("termination_details") or "")
    denied = DENIED.search(details)
    # Envoy's flag for a connection that an external authorizer denied, or did not answer for.
    by_authorizer = "UAEX" in str(line.get("response_flags") or "").split(",")
    authorizer = str(line.get("response_details") or "UAEX") if by_authorizer else ""
    decider = line.get("custom_policy") if authorizer else line.get("allowed_by")
    policy, rule = _named(denied["name"] if denied else decider)
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
        dry_run_allow_policy=_named(shadow.get("allow_policy"))[0],
        dry_run_deny_policy=_named(shadow.get("deny_policy"))[0],
        audited_by=_named(line.get("audit_policy"))[0],
        refused=REFUSALS.get(details, ""),
        termination_details=f"{authorizer}[{decider}]" if authorizer else details,
    )


class AccessBook:
    """Entries per path, in the order they were logged."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[Path, list[AccessEntry]] = {}

    def reader(self, workload: str) -> Callable[[Mapping[str, Any]], None]:
        def read(line: Mapping[str, Any]) -> None:
            entry = parse_entry(workload, line)
            if entry is None:
                return
            path = (workload, entry.source_ip, entry.destination_port)
            with self._changed:
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

    def forget(self) -> None:
        """Between cases, together with the counts of what was sent."""
        with self._changed:
            self._entries.clear()
