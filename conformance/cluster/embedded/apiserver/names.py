"""Names, labels and the rest of an object's metadata: what may stand there.

Sentences are Kubernetes' own (k8s.io/apimachinery/pkg/util/validation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.field_errors import invalid, required
from conformance.cluster.embedded.apiserver.status import FieldError

Object = Mapping[str, Any]
Errors = Iterator[FieldError]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL_RE = re.compile(rf"^{_LABEL}$")
_SUBDOMAIN_RE = re.compile(rf"^{_LABEL}(\.{_LABEL})*$")
_DNS1035_RE = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_VALUE_RE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
    f"regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_LABEL}(\\.{_LABEL})*')"
)
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def metadata_errors(obj: Object, *, key: str) -> Errors:
    """`key` is the resource's storage name. The name must stand by now."""
    metadata = obj["metadata"]
    name = metadata.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from _name_errors(str(name), key)
    for path in ("labels", "annotations"):
        for label, value in (metadata.get(path) or {}).items():
            yield from _label_errors(label, value, f"metadata.{path}", is_label=path == "labels")
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield invalid(f"metadata.ownerReferences[{index}].{field}", "", f"{field} must not be empty")


def _name_errors(name: str, key: str) -> Errors:
    if key.endswith("rbac.authorization.k8s.io"):
        if name in (".", "..") or "/" in name or "%" in name:
            yield invalid("metadata.name", name, "may not contain '/' or '%'")
    elif key == "services":
        if len(name) > 63:
            yield invalid("metadata.name", name, "must be no more than 63 characters")
        elif not _DNS1035_RE.match(name):
            yield invalid("metadata.name", name, _DNS1035_TEXT)
    elif key == "namespaces":
        if len(name) > 63:
            yield invalid("metadata.name", name, "must be no more than 63 characters")
        elif not LABEL_RE.match(name):
            yield invalid("metadata.name", name, LABEL_TEXT)
    elif len(name) > 253:
        yield invalid("metadata.name", name, "must be no more than 253 characters")
    elif not _SUBDOMAIN_RE.match(name):
        yield invalid("metadata.name", name, _SUBDOMAIN_TEXT)


def _label_errors(label: str, value: Any, path: str, *, is_label: bool) -> Errors:
    prefix, slash, tail = label.rpartition("/")
    if slash and not _SUBDOMAIN_RE.match(prefix.lower() if not is_label else prefix):
        yield invalid(path, label, f"prefix part {_SUBDOMAIN_TEXT}")
    if not tail:
        yield invalid(path, label, "name part must be non-empty")
    elif len(tail) > 63:
        yield invalid(path, label, "name part must be no more than 63 characters")
    elif not _VALUE_RE.match(tail):
        yield invalid(path, label, _KEY_TEXT)
    if is_label and isinstance(value, str):
        if len(value) > 63:
            yield invalid(path, value, "must be no more than 63 characters")
        elif not _VALUE_RE.match(value):
            yield invalid(path, value, _VALUE_TEXT)
