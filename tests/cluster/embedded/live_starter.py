"""Starts a whole embedded cluster and lives until its standard input ends.

`python -m tests.cluster.embedded.live_starter` prints the process id of the node and its kubeconfig's path.
"""

import sys

from conformance.cluster.embedded.node.images import PROJECT
from conformance.cluster.embedded.node.launcher import start_node

SITE_PACKAGES = PROJECT / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"

if __name__ == "__main__":
    with start_node() as running:
        print(running.pid, running.path(str(running.ready["kubeconfig"])), flush=True)
        sys.stdin.read()
