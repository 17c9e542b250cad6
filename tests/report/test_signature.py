"""Fingerprint and signature: one flipped byte is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.__main__ import main
from conformance.report.signature import write_fingerprint
from tests import lines
from tests.report import samples

needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = samples.write(tmp_path / "r", samples.record(lines.case("g/a", reason="so it is")))
    write_fingerprint(folder / "record.jsonl")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


def flip(run: Path) -> None:
    """One byte, so that the record is still a whole and well-formed one."""
    record = run / "record.jsonl"
    data = record.read_bytes()
    assert data.count(b"so it is") > 0
    record.write_bytes(data.replace(b"so it is", b"so it Is", 1))


@pytest.mark.parametrize("arguments", [["--verify"], []])
def test_a_flipped_byte_is_refused(
    run: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flip(run)
    assert main(["report", str(run), *arguments]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert "is not what its run wrote" in said.err
    assert said.err.count("\n") == 1
    assert not (run / "index.html").exists()


def test_a_whole_record_is_accepted_and_a_hash_is_not_called_proof(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), "--verify"]) == 0
    assert "a bare hash shows damage, not tampering" in capsys.readouterr().out


@needs_ssh_keygen
def test_a_signature_is_checked_against_the_keys_that_count(
    run: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), "--sign", str(key)]) == 0
    assert (run / "record.jsonl.sig").is_file()
    assert main(["report", str(run), "--verify"]) == 0
    assert "whose key that is was not checked" in capsys.readouterr().out
    signers = tmp_path / "signers"
    signers.write_text(f"auditor@example.com {key.with_suffix('.pub').read_text()}")
    assert main(["report", str(run), "--verify", "--signers", str(signers)]) == 0
    assert "signed by auditor@example.com" in capsys.readouterr().out
    # Whoever changes the record can make a new fingerprint, not a new signature.
    flip(run)
    write_fingerprint(run / "record.jsonl")
    for arguments in (["--verify"], ["--verify", "--signers", str(signers)]):
        assert main(["report", str(run), *arguments]) == 4
        assert "is not a signature of" in capsys.readouterr().err


@needs_ssh_keygen
def test_another_key_is_no_signature_of_ours(
    run: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"auditor@example.com {other.with_suffix('.pub').read_text()}")
    assert main(["report", str(run), "--sign", str(key)]) == 0
    assert main(["report", str(run), "--signers", str(signers)]) == 4
    assert f"is by no key in {signers}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sign", "/nowhere/key"], "there is no key /nowhere/key"),
        (["--verify", "--signers", "/nowhere/signers"], "there is no signature"),
    ],
)
def test_what_is_missing_is_one_line(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), *arguments]) == 4
    assert message in capsys.readouterr().err
