"""`python3 -m tests.attribution.istio_log text|silent`: the enforcer with another access log.

`text` is Istio's default text format, written by Envoy itself; `silent` is none at all, as Istio has it
unless it is switched on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog

from enforcer.__main__ import main
from enforcer.xds import access_log
from enforcer.xds.pack import pack
from tests.mutants.seams import instead

# From https://istio.io/latest/docs/tasks/observability/logs/access-log/
DEFAULT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE%'
    " %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%"
    ' "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION%'
    ' %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%"'
    ' "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW%'
    " %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS%"
    " %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def text(_: Mapping[str, Any]) -> AccessLog:
    config = StdoutAccessLog()
    config.log_format.text_format_source.inline_string = DEFAULT_FORMAT
    return AccessLog(name="envoy.access_loggers.stdout", typed_config=pack(config))


def silent(_: Mapping[str, Any]) -> AccessLog:
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(FileAccessLog(path="/dev/null")))


if __name__ == "__main__":
    formats = {"text": text, "silent": silent}
    kind, *arguments = sys.argv[1:]
    instead(access_log, "_to_stdout", formats[kind])
    sys.exit(main(arguments))
