"""The inbound access log: one JSON line per connection, on the sidecar's standard output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from google.protobuf.struct_pb2 import Struct

from enforcer import rbac
from enforcer.xds.pack import pack


def _metadata(key: str) -> str:
    return f"%DYNAMIC_METADATA({rbac.METADATA_NAMESPACE}:{key})%"


INBOUND_FORMAT: Mapping[str, Any] = {
    "log": "access",
    "direction": "inbound",
    "time": "%START_TIME%",
    "source_ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "source_port": "%DOWNSTREAM_REMOTE_PORT%",
    "destination_ip": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "destination_port": "%DOWNSTREAM_LOCAL_PORT%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "response_flags": "%RESPONSE_FLAGS%",
    "termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "allowed_by": _metadata(rbac.ALLOWED_BY),
    "dry_run": {
        "allow_result": _metadata(rbac.DRY_RUN_ALLOW_RESULT),
        "allow_policy": _metadata(rbac.DRY_RUN_ALLOW_POLICY),
        "deny_result": _metadata(rbac.DRY_RUN_DENY_RESULT),
        "deny_policy": _metadata(rbac.DRY_RUN_DENY_POLICY),
    },
    "audit_policy": _metadata(rbac.AUDITED_BY),
    # The CUSTOM rule by which an external authorizer was asked, and what came of it.
    "custom_policy": _metadata(rbac.ASKED_BY),
    "response_details": "%RESPONSE_CODE_DETAILS%",
    "peer_principal": "%DOWNSTREAM_PEER_URI_SAN%",
    # What was wrong with a handshake; on plaintext, that its first bytes were not one.
    "tls_error": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
MUTUAL_TLS_REQUIRED = "mutual_tls_required"
"""The termination details of a connection that no chain takes."""


@cache
def inbound() -> AccessLog:
    """The access log of the inbound chain's tcp_proxy: it also sees what a filter before it closed. One
    message for all: to be copied, never changed."""
    return _to_stdout(INBOUND_FORMAT)


@cache
def unmatched() -> AccessLog:
    """The same line for a connection that no chain takes: plaintext where mutual TLS is demanded."""
    log = _to_stdout({**INBOUND_FORMAT, "termination_details": MUTUAL_TLS_REQUIRED})
    log.filter.response_flag_filter.flags.append("NR")
    return log


def _to_stdout(line: Mapping[str, Any]) -> AccessLog:
    fields = Struct()
    fields.update(line)
    config = StdoutAccessLog()
    config.log_format.json_format.CopyFrom(fields)
    return AccessLog(name="envoy.access_loggers.stdout", typed_config=pack(config))
