"""One line said from inside a pod, where no prober is open: before there is a rig, and for barriers."""

from __future__ import annotations

import json

from conformance.cluster.exec import open_exec
from conformance.cluster.kube import Kube
from conformance.errors import ProbeError

__all__ = ["ask_once"]

# Says one line; a line of JSON: the answer, empty where there is none.
ASK = """
import json, socket, sys
answer = ""
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as sock:
        sock.sendall(b"canary\\n")
        answer = sock.makefile().readline()
except OSError:
    pass
print(json.dumps(answer), flush=True)
"""


def ask_once(
    kube: Kube, *, namespace: str, pod: str, container: str, host: str, port: int, deadline: float
) -> str:
    """The answer, empty where none came. Raises ProbeError where it could not be asked by `deadline` (of
    time.monotonic)."""
    what = f"a line from {namespace}/{pod}"
    stream = open_exec(
        kube,
        namespace=namespace,
        pod=pod,
        container=container,
        command=("python3", "-c", ASK, host, str(port)),
        what=what,
    )
    try:
        return str(json.loads(stream.receive(deadline)))
    except ValueError as error:
        raise ProbeError(f"{what}: this is no JSON: {error}") from None
    finally:
        stream.close()
