"""Istio's own access log: its default text format, and the same fields encoded as JSON.

The format is documented at https://istio.io/latest/docs/tasks/observability/logs/access-log/. It has no
direction, so a line is known as inbound by its cluster and its address; it names the rule of a denial
(`rbac_access_denied_matched_policy[...]`), of an allowed connection none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from conformance.evidence import AccessEntry

__all__ = ["DENIED", "REFUSALS", "moment", "named", "parse_fields", "parse_text"]

MATCHED = re.compile(r"ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<policy>[^\]]*)\]-rule\[(?P<rule>\d+)\]")
DENIED = re.compile(r"rbac_access_denied_matched_policy\[(?P<name>.*)\]")
# Details of connections that never came to the policies, and what they mean.
REFUSALS = {
    "mutual_tls_required": "the workload takes mutual TLS only",
    "filter_chain_not_found": "no filter chain takes it: mutual TLS is demanded, or nothing listens",
}

# Up to the bytes, then from the cluster on; the quoted fields between them are HTTP's and the upstream's.
TEXT = re.compile(
    r'^\[(?P<start_time>[^\]]+)\] "(?P<request>[^"]*)" (?P<response_code>\d+) (?P<response_flags>\S+)'
    r' (?P<response_code_details>\S+) (?P<connection_termination_details>\S+) "[^"]*" \d+ \d+ \d+ \S+'
    r'(?: "[^"]*"){5} (?P<upstream_cluster>\S+) (?P<upstream_local_address>\S+)'
    r" (?P<downstream_local_address>\S+) (?P<downstream_remote_address>\S+)(?: \S+)*\s*$"
)
OUTBOUND = ("PassthroughCluster", "BlackHoleCluster")
ADDRESS = re.compile(r"^\[?(?P<ip>[0-9a-fA-F.:]+?)\]?:(?P<port>\d+)$")


def named(text: object) -> tuple[str, int | None]:
    """(namespace/name, rule) of `ns[a]-policy[b]-rule[0]`; ("", None) for none."""
    match = MATCHED.search(text) if isinstance(text, str) else None
    return (f"{match['namespace']}/{match['policy']}", int(match["rule"])) if match else ("", None)


def moment(text: object) -> float | None:
    """Unix seconds of Envoy's %START_TIME%; None where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def parse_text(workload: str, line: str) -> AccessEntry | None:
    """An inbound TCP connection's entry from a line of the default text format; None for any other line."""
    match = TEXT.match(line)
    if match is None or match["request"] != "- - -":  # a request of HTTP is not what we sent
        return None
    return parse_fields(workload, match.groupdict())


def parse_fields(workload: str, fields: Mapping[str, Any]) -> AccessEntry | None:
    """The same from the fields by their names in Istio's JSON encoding; None where it is not inbound."""
    cluster = str(fields.get("upstream_cluster") or "")
    if cluster.startswith("outbound|") or cluster in OUTBOUND or fields.get("method") not in (None, "-", ""):
        return None
    source = ADDRESS.match(str(fields.get("downstream_remote_address") or ""))
    here = ADDRESS.match(str(fields.get("downstream_local_address") or ""))
    if source is None or here is None:
        return None
    details = [
        str(fields.get(name) or "") for name in ("connection_termination_details", "response_code_details")
    ]
    denied = next((found for text in details if (found := DENIED.search(text))), None)
    refused = next((REFUSALS[text] for text in details if text in REFUSALS), "")
    policy, rule = named(denied["name"]) if denied else ("", None)
    # Envoy's flag for a connection that an external authorizer denied, or did not answer for.
    by_authorizer = "UAEX" in str(fields.get("response_flags") or "").split(",")
    return AccessEntry(
        workload=workload,
        source_ip=source["ip"],
        destination_port=int(here["port"]),
        denied=denied is not None or by_authorizer,
        authorizer=(details[1] or "UAEX") if by_authorizer else "",
        policy=policy,
        rule=rule,
        names_allows=False,
        started=moment(fields.get("start_time")),
        refused=refused,
        termination_details=next((text for text in details if text not in ("", "-")), ""),
    )
