"""Wiring only: the suite is a pytest plugin."""

pytest_plugins = ["conformance.workers", "conformance.collecting", "conformance.plugin"]
