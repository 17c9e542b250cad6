"""The case of generated policies; there only where `--fuzz N` asks for it. What it does is in `fuzz`."""

from __future__ import annotations

import pytest

from conformance.act import Act


@pytest.mark.requirements("ORDER-01", "ORDER-03", "ORDER-04", "ORDER-05")
def test_policies(act: Act) -> None:
    """Generated sets of policies decide every connection as the oracle foretells"""
    act.doubt("nothing was generated: --fuzz N says how many sets")
