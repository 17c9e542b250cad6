"""Mesh options about trust."""

from typing import Any

import pytest

from enforcer.errors import MeshError
from enforcer.mesh import Trust, read_options


def test_trust_of_a_mesh_that_names_none() -> None:
    assert read_options({}).trust == Trust(domain="cluster.local", aliases=())


def test_trust_is_read() -> None:
    options = read_options({"trustDomain": "new.td", "trustDomainAliases": ["old.td", "older-td"]})
    assert options.trust == Trust(domain="new.td", aliases=("old.td", "older-td"))


def test_every_name_counts_once() -> None:
    assert Trust(domain="b", aliases=("a", "b", "a")).domains == ("b", "a")


@pytest.mark.parametrize("domain", ["", "a/ns/b", "A.b", "*", "a b", "ä", "a" * 256, "a\n", None, 1])
def test_other_names_are_refused(domain: Any) -> None:
    with pytest.raises(MeshError, match=r"trustDomain: .* is not a trust domain"):
        read_options({"trustDomain": domain})
    with pytest.raises(MeshError, match=r"trustDomainAliases: .* is not a trust domain"):
        read_options({"trustDomainAliases": ["a", domain]})


def test_aliases_are_a_list() -> None:
    with pytest.raises(MeshError, match="trustDomainAliases must be a list"):
        read_options({"trustDomainAliases": "old.td"})
