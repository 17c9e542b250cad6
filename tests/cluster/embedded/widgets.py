"""A custom kind for the API server's tests."""

from __future__ import annotations

from typing import Any

_PORTS = {"type": "array", "items": {"type": "string"}}
_TO = {"type": "array", "items": {"type": "object", "properties": {"ports": _PORTS}}}
_SCHEMA = {
    "openAPIV3Schema": {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "action": {"type": "string", "enum": ["ALLOW", "DENY"]},
                    "replicas": {"type": "integer"},
                    "rules": {"type": "array", "items": {"type": "object", "properties": {"to": _TO}}},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
}
_COLUMNS = [
    {"name": "Action", "type": "string", "jsonPath": ".spec.action"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
_SUBRESOURCES: dict[str, Any] = {
    "status": {},
    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
}

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
        "versions": [
            {
                "name": version,
                "served": True,
                "storage": version == "v1",
                "schema": _SCHEMA,
                "subresources": _SUBRESOURCES,
                "additionalPrinterColumns": _COLUMNS,
            }
            for version in ("v1", "v1beta1")
        ],
    },
}


def widget(name: str, /, *, version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"example.com/{version}",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": spec,
    }
