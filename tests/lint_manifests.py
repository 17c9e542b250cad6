"""`python -m tests.lint_manifests`: manifests/ against the published schemas of Kubernetes, offline.

Strict: a field that a version does not know is an error. Kinds that are no part of Kubernetes (kind's own
configuration) are checked only by being YAML here; kind's reader and the stand-in of the tests see the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

MANIFESTS = Path(__file__).parent.parent / "manifests"
VERSIONS = ("1.34", "1.35", "1.36")  # as manifests/kind/node-images.yaml
FOREIGN = ("kind.x-k8s.io/",)


def documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(MANIFESTS.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if isinstance(document, dict) and "apiVersion" in document:
                yield file, document


def problems(document: dict[str, Any]) -> Iterator[str]:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


def main() -> int:
    count, wrong = 0, 0
    for file, document in documents():
        if str(document["apiVersion"]).startswith(FOREIGN):
            continue
        count += 1
        name = (document.get("metadata") or {}).get("name", "?")
        for problem in problems(document):
            wrong += 1
            print(f"{file.relative_to(MANIFESTS.parent)}: {document['kind']}/{name}: {problem}")
    print(f"{count} objects of manifests/ against Kubernetes {', '.join(VERSIONS)}: {wrong} problems")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
