"""A cluster of its own for a run, by the commands `kind` and `docker`.

It has a name and a kubeconfig file of its own; the user's current context is never touched. Which clusters
are ours, and which of them a run uses, is told by `marks`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from conformance import interrupts
from conformance.cluster import images
from conformance.cluster.images import Image
from conformance.cluster.marks import Mark, read_mark, take_mark
from conformance.cluster.programs import Failed, run_program
from conformance.errors import InputError, SetupError

__all__ = [
    "KindCluster",
    "StaleCluster",
    "check_docker",
    "check_kind",
    "remove",
    "stale_clusters",
    "start_kind",
]

Say = Callable[[str], None]
CONFIGS = images.ROOT / "manifests" / "kind"
PREFIX = "authz-conf-"
CREATE_SECONDS, LOAD_SECONDS, SHORT_SECONDS = 900.0, 600.0, 120.0
READY = "300s"  # what `kind create cluster` waits for the control plane
ANSWER_SECONDS = 15.0


def check_kind() -> None:
    """Whether both programs are there and answer. Raises InputError with the remedy."""
    missing = [program for program in ("docker", "kind") if not shutil.which(program)]
    if missing:
        raise _missing(*missing)
    check_docker()
    try:
        run_program(["kind", "version"], ANSWER_SECONDS)
    except Failed as error:
        raise InputError(
            f"kind does not run: {error}", hint="install it anew, or --cluster embedded"
        ) from None


def check_docker() -> None:
    """Whether the docker command is there and its daemon answers. Raises InputError with the remedy."""
    if not shutil.which("docker"):
        raise _missing("docker")
    try:
        run_program(["docker", "version", "--format", "{{.Server.Version}}"], ANSWER_SECONDS)
    except Failed as error:
        raise _daemon(error) from None


def _missing(*programs: str) -> InputError:
    verb = "is" if len(programs) == 1 else "are"
    hint = "install it, or --cluster embedded, which needs neither"
    return InputError(f"{' and '.join(programs)} {verb} not installed", hint=hint)


def _daemon(error: Failed) -> InputError:
    said = error.output.lower()
    if "permission denied" in said:
        hint = "add it to the group docker and log in anew, or --cluster embedded"
        return InputError("the Docker daemon refuses this user", hint=hint)
    if "cannot connect" in said or "is the docker daemon running" in said:
        return InputError("no Docker daemon answers", hint="start it, or --cluster embedded")
    return InputError(f"the Docker daemon does not answer: {error}", hint="restart it, or --cluster embedded")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCluster:
    """A running cluster that is ours. `image`: what its nodes hold for `authz-conformance:dev`."""

    name: str
    kubeconfig: Path
    description: str
    image: Image
    keep: bool
    mark: Mark

    def save_logs(self, directory: Path) -> None:
        """`kind export logs`; nothing where that fails."""
        with suppress(Failed):
            run_program(["kind", "export", "logs", str(directory), "--name", self.name], LOAD_SECONDS)

    def stop(self) -> None:
        """Deletes it unless it is to be kept; a second call finds nothing. Raises SetupError."""
        if not self.kubeconfig.parent.exists():
            return
        try:
            if not self.keep:
                delete(self.name, self.kubeconfig)
        finally:
            self.mark.release(remove=not self.keep and not may_exist(self.name))
            shutil.rmtree(self.kubeconfig.parent, ignore_errors=True)


def start_kind(
    *,
    run: str,
    level: str,
    version: str,
    image: Image | None,
    keep: bool,
    reuse: bool,
    logs: Path,
    say: Say,
) -> KindCluster:
    """A new cluster, or with `reuse` one that an earlier run kept; the image is on its nodes. `logs`: where
    those of a cluster go that did not come up. Raises InputError or SetupError, and leaves nothing then."""
    check_kind()
    node_image, config = choose_node_image(), choose_config(level)
    begun = time.monotonic()
    ours = image or Image(name=images.build(version=version))
    say(f"image {ours.name} {'named' if image else 'built'} in {time.monotonic() - begun:.1f} s")
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    kubeconfig = directory / "kubeconfig"
    mark: Mark | None = None
    name, fresh, taken = f"{PREFIX}{run}", True, False
    begun = time.monotonic()
    try:
        found = find_kept() if reuse else None
        if found is not None:
            name, mark = found
            fresh = False
            write_kubeconfig(name, kubeconfig)
        else:
            taken = exists(name)
            mark = None if taken else take_mark(name)
            if mark is None:
                taken = True
                raise SetupError(f"there is a kind cluster {name} already", hint="start the run again")
            mark.write({"run": run, "started": time.time(), "kept": False})
            create(name, node_image=node_image, config=config, kubeconfig=kubeconfig)
        say(f"kind cluster {name} {'up' if fresh else 'reused'} in {time.monotonic() - begun:.1f} s")
        load(name, ours, directory, say)
        if keep or reuse:
            mark.write({"run": run, "started": time.time(), "kept": True})
    except BaseException as error:
        interrupts.let_finish()
        if fresh and not taken and mark is not None:
            if isinstance(error, SetupError):
                with suppress(Failed):
                    run_program(["kind", "export", "logs", str(logs), "--name", name], LOAD_SECONDS)
            with suppress(SetupError):
                delete(name, kubeconfig)
        if mark is not None:
            mark.release(remove=fresh and not taken and not may_exist(name))
        shutil.rmtree(directory, ignore_errors=True)
        raise
    workers = sum(1 for line in config.read_text(encoding="utf-8").splitlines() if line == "- role: worker")
    nodes = f"{workers} workers, {node_image}" if fresh else "kept by an earlier run"
    return KindCluster(
        name=name,
        kubeconfig=kubeconfig,
        description=f"kind cluster {name}, {nodes}, image {ours.name}",
        image=ours,
        keep=keep or reuse,
        mark=mark,
    )


def choose_node_image() -> str:
    """That of the newest version, or of KIND_KUBERNETES. Raises InputError."""
    known = images.node_images()
    asked = os.environ.get("KIND_KUBERNETES", "")
    if asked and asked not in known:
        raise InputError(
            f"KIND_KUBERNETES={asked}: there is no node image", hint=f"one of {', '.join(known)}"
        )
    return known[asked] if asked else next(iter(known.values()))


def choose_config(level: str) -> Path:
    """kind's configuration: one worker for the quick proof, two for the rest, or KIND_CONFIG. Raises
    InputError."""
    asked = os.environ.get("KIND_CONFIG", "")
    config = (
        Path(asked) if asked else CONFIGS / ("one-worker.yaml" if level == "core" else "two-workers.yaml")
    )
    if not config.is_file():
        raise InputError(f"KIND_CONFIG={asked}: there is no such file", hint=f"see {CONFIGS}")
    return config


def create(name: str, *, node_image: str, config: Path, kubeconfig: Path) -> None:
    command = ["kind", "create", "cluster", "--name", name, "--image", node_image, "--config", str(config)]
    try:
        run_program([*command, "--kubeconfig", str(kubeconfig), "--retain", "--wait", READY], CREATE_SECONDS)
    except Failed as error:
        cause = _told(error)
        if "failed to pull image" in error.output:
            hint = (
                "let Docker reach its registry, or bring it with `docker load`; --cluster embedded needs none"
            )
            raise SetupError(f"the node image {node_image} cannot be pulled", hint=hint) from None
        raise SetupError(
            f"kind made no cluster: {cause}", hint="kind's logs lie in the report directory"
        ) from None


def load(name: str, image: Image, directory: Path, say: Say) -> None:
    """Puts the image on the nodes, where the Docker daemon has it; others are pulled by the nodes."""
    if not images.is_here(image.name):
        say(f"image {image.name} is not on this machine: the nodes pull it")
        return
    begun = time.monotonic()
    archive = directory / "image.tar"
    # The walkthrough types the manifests as they are, so their name is loaded, too.
    names = [image.name] if image.scripts else [image.name, images.LOCAL]
    images.save(names, archive)
    try:
        run_program(["kind", "load", "image-archive", str(archive), "--name", name], LOAD_SECONDS)
    except Failed as error:
        raise SetupError(f"the image was not loaded into {name}: {_told(error)}") from None
    finally:
        archive.unlink(missing_ok=True)
    say(f"image loaded in {time.monotonic() - begun:.1f} s")


def delete(name: str, kubeconfig: Path) -> None:
    """Raises SetupError with what is left to be done by hand."""
    command = ["kind", "delete", "cluster", "--name", name]
    try:
        run_program([*command, "--kubeconfig", str(kubeconfig)], LOAD_SECONDS)
    except Failed as error:
        raise SetupError(
            f"the kind cluster was not deleted: {_told(error)}", hint=" ".join(command)
        ) from None


def clusters() -> list[str]:
    """Names of the kind clusters of this Docker daemon. Raises SetupError where it does not tell."""
    try:
        return [line.strip() for line in run_program(["kind", "get", "clusters"], SHORT_SECONDS).splitlines()]
    except Failed as error:
        raise SetupError(f"kind does not tell its clusters: {_told(error)}") from None


def exists(name: str) -> bool:
    """Raises SetupError as `clusters`."""
    return name in clusters()


def may_exist(name: str) -> bool:
    """True, too, where kind does not tell: what is not known to be gone keeps its mark."""
    try:
        return exists(name)
    except SetupError:
        return True


def write_kubeconfig(name: str, kubeconfig: Path) -> None:
    try:
        content = run_program(["kind", "get", "kubeconfig", "--name", name], SHORT_SECONDS)
    except Failed as error:
        raise SetupError(f"the kind cluster {name} cannot be reused: {_told(error)}") from None
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(content, encoding="utf-8")


def find_kept() -> tuple[str, Mark] | None:
    """The youngest cluster that a run kept and no run uses, locked from now on."""
    known = {name: read_mark(name) for name in clusters() if name.startswith(PREFIX)}
    kept = [name for name, content in known.items() if content.get("kept")]
    for name in sorted(kept, key=lambda one: float(str(known[one].get("started", 0))), reverse=True):
        mark = take_mark(name)
        if mark is not None:
            return name, mark
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleCluster:
    """A cluster of ours that no living run uses. `kept`: it was asked for; it goes only when it is named.
    `started`: Unix time."""

    name: str
    run: str
    started: float
    kept: bool


def stale_clusters() -> list[StaleCluster]:
    """Those of this user's runs, oldest first; empty where kind is not installed. One without a mark here is
    another user's or another machine's, and not told. Raises SetupError where kind fails."""
    if not shutil.which("kind"):
        return []
    found = []
    for name in clusters():
        content = read_mark(name) if name.startswith(PREFIX) else {}
        if not content:
            continue
        mark = take_mark(name)
        if mark is None:
            continue
        mark.release(remove=False)
        found.append(
            StaleCluster(
                name=name,
                run=str(content.get("run", "")),
                started=float(str(content.get("started", 0))),
                kept=bool(content.get("kept")),
            )
        )
    return sorted(found, key=lambda one: one.started)


def remove(cluster: StaleCluster) -> None:
    """Deletes it. Raises SetupError where a run uses it meanwhile, or kind fails."""
    mark = take_mark(cluster.name)
    if mark is None:
        raise SetupError(f"a run uses the kind cluster {cluster.name} now")
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as directory:
            delete(cluster.name, Path(directory, "kubeconfig"))
    except SetupError:
        mark.release(remove=False)
        raise
    mark.release(remove=True)


def _told(error: Failed) -> str:
    """kind's own line of the cause; what follows it is another program's."""
    lines = [line.removeprefix("ERROR: ") for line in error.output.splitlines() if line.startswith("ERROR: ")]
    return lines[0] if lines else str(error)
