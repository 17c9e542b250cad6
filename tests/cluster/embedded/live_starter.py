"""Starts a whole embedded cluster and lives until its standard input ends.

`python -m tests.cluster.embedded.live_starter` prints the process id of the node, its kubeconfig's path
and why it has no IPv6.
"""

import json
import sys

from conformance.cluster.embedded.node.images import PROJECT
from conformance.cluster.embedded.node.launcher import start_node

SITE_PACKAGES = PROJECT / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"

if __name__ == "__main__":
    with start_node() as running:
        kubeconfig = running.path(str(running.ready["kubeconfig"]))
        print(json.dumps([running.pid, str(kubeconfig), running.ready["no_ipv6"]]), flush=True)
        sys.stdin.read()
