"""Stands in for `docker` and `kind`: takes exactly the calls that the driver may make.

Called as `kind_standin.py NAME ARGUMENT...` with the state in the directory $STANDIN: calls.jsonl,
clusters.json (names), answers.json ({"kind create": {"code", "out", "err"}}, a failure or another output),
hang (a call of this name waits for its end), kubeconfig (what a new cluster's file holds). Standard library
only, so that it starts fast.
"""

import json
import os
import platform
import re
import signal
import sys
from itertools import pairwise
from pathlib import Path

NAME = r"authz-conf-[a-z0-9]{8,20}"
IMAGE = "sha256:" + "4be1" * 16
MACHINE = "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CALLS = [
    r"docker version --format \{\{\.Server\.Version\}\}",
    r"docker build --file \S+/enforcer/Dockerfile --tag authz-conformance:dev --build-arg VERSION=\d\S+"
    r" --build-arg REVISION=\S+ --build-arg SOURCE=\S+ /\S+",
    r"docker image inspect --format \{\{\.Id\}\} \S+",
    r"docker tag authz-conformance:dev authz-conformance:[0-9a-f]{12}",
    rf"docker save --output \S+/image\.tar( --platform {MACHINE})?( \S+:\S+)+",
    r"kind version",
    r"kind get clusters",
    rf"kind get kubeconfig --name {NAME}",
    rf"kind create cluster --name {NAME} --image kindest/node:v1\.3\d\.\d+@sha256:[0-9a-f]{{64}}"
    r" --config \S+/manifests/kind/\S+\.yaml --kubeconfig \S+/kubeconfig --retain --wait \d+s",
    rf"kind load image-archive \S+/image\.tar --name {NAME}",
    rf"kind export logs \S+/kind-logs --name {NAME}",
    rf"kind delete cluster --name {NAME} --kubeconfig \S+/kubeconfig",
]


def main(arguments: list[str]) -> int:
    state = Path(os.environ["STANDIN"])
    line = " ".join(arguments)
    known = any(re.fullmatch(call, line) for call in CALLS)
    with (state / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"call": line, "known": known}) + "\n")
    if not known:
        sys.stderr.write(f"the stand-in does not know: {line}\n")
        return 97
    hang = state / "hang"
    if hang.exists() and line.startswith(hang.read_text()):
        (state / "hanging").touch()
        signal.pause()
    answers = json.loads((state / "answers.json").read_text())
    for start, answer in answers.items():
        if line.startswith(start) and not ("unless" in answer and answer["unless"] not in line):
            sys.stdout.write(answer.get("out", ""))
            sys.stderr.write(answer.get("err", ""))
            if answer.get("code"):
                return int(answer["code"])
    return act(state, arguments)


def act(state: Path, arguments: list[str]) -> int:
    clusters = json.loads((state / "clusters.json").read_text())
    named = dict(pairwise(arguments))
    match arguments[:3]:
        case ["docker", "image", _]:
            print(IMAGE)
        case ["docker", "save", _]:
            Path(named["--output"]).write_bytes(b"archive")
        case ["kind", "get", "clusters"]:
            print("\n".join(clusters))
        case ["kind", "get", "kubeconfig"]:
            print((state / "kubeconfig").read_text())
        case ["kind", "create", _]:
            clusters.append(named["--name"])
            Path(named["--kubeconfig"]).write_text((state / "kubeconfig").read_text())
        case ["kind", "load", _]:
            return 0 if Path(arguments[3]).is_file() and named["--name"] in clusters else 1
        case ["kind", "export", _]:
            Path(arguments[3]).mkdir(parents=True)
            Path(arguments[3], "kind-version.txt").write_text("a stand-in")
        case ["kind", "delete", _]:
            clusters = [name for name in clusters if name != named["--name"]]
    (state / "clusters.json").write_text(json.dumps(clusters))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
