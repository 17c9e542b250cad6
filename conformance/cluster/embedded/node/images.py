"""The one image of the embedded cluster: the project's own environment."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.cluster.embedded.node.spec import STATE

REPOSITORY = "authz-conformance"
PROJECT = Path(__file__).resolve().parents[4]
COMMANDS = f"{STATE}/bin"
"""Where the image's own commands stand, in the node and in every container."""

_WORKLOADS = {"tcp-echo": "tcp_echo.py", "nc": "nc.py"}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REGISTRIES = ("docker.io/library/", "docker.io/", "localhost/")


class ImageError(Exception):
    """ErrImageNeverPull: there is no such image, and none is ever pulled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    name: str
    env: Mapping[str, str]
    cwd: str = "/"


def find_image(name: str) -> Image:
    """The image of that name, with the environment its containers start from. Raises ImageError."""
    repository = name.partition("@")[0]
    last = repository.rpartition("/")[2]
    if ":" in last:
        repository = repository[: -len(last)] + last.partition(":")[0]
    for registry in _REGISTRIES:
        repository = repository.removeprefix(registry)
    if repository != REPOSITORY:
        raise ImageError(f"the embedded cluster has one image, {REPOSITORY}")
    path = f"{COMMANDS}:{Path(sys.executable).parent}:{_SYSTEM_PATH}"
    env = {
        "PATH": path,
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",  # noqa: S108 - the container's own
    }
    return Image(name=name, env=env)


def install_commands(directory: str) -> None:
    """Writes the wrappers of the workloads' programs: they need no site-packages, so start in 20 ms."""
    for command, module in _WORKLOADS.items():
        program = PROJECT / "conformance" / "workloads" / module
        wrapper = Path(directory, command)
        wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{program}' \"$@\"\n")
        wrapper.chmod(0o755)


def needed_paths() -> tuple[str, ...]:
    """The directories that the image is made of, none inside another."""
    wanted = {str(PROJECT), sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))}  # noqa: PTH120 - as the kernel resolves it
    wanted |= {os.path.realpath(path) for path in wanted}
    return tuple(
        sorted(p for p in wanted if not any(p != other and p.startswith(other + "/") for other in wanted))
    )
