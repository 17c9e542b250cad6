"""`python3 -m enforcer COMMAND`: every part of the enforcer is one command of one image.

Commands import what they need when they are run: `capture`, `sidecar` and `status` start in a few
milliseconds in every pod and must not pay for the control plane's libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from enforcer.errors import EnforcerError

USAGE = """usage: python3 -m enforcer COMMAND

  controller   the control plane: watches, compiles, serves sidecars, injects, validates
  sidecar      becomes Envoy, configured by the control plane
  capture      redirects this pod's TCP connections to its Envoy
  status       prints the control plane's status as JSON lines (--follow: at each change)
  check        says whether everything the enforcer needs is installed
"""

FAILED, MISUSED = 1, 2


def main(arguments: Sequence[str]) -> int:
    """Runs one command; its exit code."""
    command, rest = (arguments[0] if arguments else ""), list(arguments[1:])
    run = COMMANDS.get(command)
    if run is None:
        asked = command in {"-h", "--help", "help"}
        print(USAGE, end="", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else MISUSED
    try:
        return run(rest)
    except EnforcerError as error:
        print(f"enforcer {command}: {error}", file=sys.stderr)
        return FAILED


def _controller(arguments: Sequence[str]) -> int:
    from enforcer import controller

    return controller.main(arguments)


def _sidecar(arguments: Sequence[str]) -> int:
    from enforcer import sidecar

    return sidecar.main(arguments)


def _capture(arguments: Sequence[str]) -> int:
    from enforcer import capture

    return capture.main(arguments)


def _status(arguments: Sequence[str]) -> int:
    from enforcer import status_client

    return status_client.main(arguments)


def _check(_: Sequence[str]) -> int:
    from enforcer import envoy_binary

    print(f"envoy {envoy_binary.find_envoy()}")
    print(f"messages {envoy_binary.check_messages()}")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "controller": _controller,
    "sidecar": _sidecar,
    "capture": _capture,
    "status": _status,
    "check": _check,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
