"""Before the first case on a cluster that is not ours: what is missing is told in one line, with its remedy.

One function for each check. `before` creates nothing; `canary` brings the first workloads of the run.
"""

from conformance.preflight.checks import Check, Ground, fail
from conformance.preflight.place import hindrance
from conformance.preflight.run import preflight

__all__ = ["Check", "Ground", "fail", "hindrance", "preflight"]
