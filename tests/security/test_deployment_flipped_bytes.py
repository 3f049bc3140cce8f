"""One flipped byte anywhere in what runs is refused, with exit code 7."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from participant.cli.main import main
from participant.deployment.active import MODELS, TRANSCRIPT_NAME, active_model
from participant.deployment.state import FILE_NAME as STATE_NAME
from participant.deployment.state import read_state
from participant.node.registry_client import channel_factory
from shared.errors import Exit, VerificationError
from shared.model.bundle import FILE_NAME
from tests.support.alliance import found_alliance
from tests.support.deployment import Member, knowing, member_of, records
from tests.support.registry import serving

torch.set_num_threads(1)

HEADER = 600
"""Manifest, signature, lengths and safetensors header lie in the first bytes of a file."""

STRIDE = 997
"""Every so many bytes of a large tensor; a prime, so that no column is left out."""


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member that runs a release with a personal head, and one that it could roll back to."""
    member = member_of(found_alliance(tmp_path_factory.mktemp("flipped"), ["a"]), "a")
    own, factory = records(600, own=0.8), channel_factory(member.folder)
    with serving(member.alliance, member.database):
        for number, share in ((1, 0.5), (2, 0.7)):
            member.deployer(own).activate(member.publish(number, knowing(share)), factory)
    yield member
    member.database.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def command(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["touchstone-participant", *map(str, arguments)])
        return main()

    return command


def files(member: Member) -> dict[str, Path]:
    """Return every file that what runs rests on."""
    models = member.folder / MODELS
    active = read_state(models).active
    assert active is not None
    assert active.head is not None
    return {
        "state": models / STATE_NAME,
        "bundle": models / active.path / FILE_NAME,
        "transcript": models / active.path / TRANSCRIPT_NAME,
        "head": models / active.head.path,
    }


def places(size: int) -> list[int]:
    """Return the bytes to flip: all at either end, and a sample of the rest."""
    ends = {*range(min(HEADER, size)), *range(max(0, size - 16), size)}
    return sorted(ends | set(range(0, size, STRIDE)))


@pytest.mark.parametrize("name", ["state", "bundle", "transcript", "head"])
@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_every_file_of_what_runs(member, name, mask):
    path = files(member)[name]
    data = path.read_bytes()
    every = name == "state" and mask == 0x01
    try:
        for at in range(len(data)) if every else places(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
            with pytest.raises(VerificationError) as caught:
                active_model(member.folder)
            assert caught.value.exit_code == Exit.VERIFICATION, (name, at)
    finally:
        path.write_bytes(data)
    assert active_model(member.folder) is not None


@pytest.mark.parametrize("name", ["state", "bundle", "transcript", "head"])
@pytest.mark.parametrize("command", ["verify", "score"])
def test_both_commands_end_with_exit_code_7(member, run, tmp_path, capsys, name, command):
    path = files(member)[name]
    data = path.read_bytes()
    (tmp_path / "in.jsonl").write_text(json.dumps({"listing_id": "1"}) + "\n")
    words = {
        "verify": ["model", "verify"],
        "score": ["score", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")],
    }[command]
    arguments = (*words, "--dir", member.folder, "--json")
    try:
        for at in (len(data) // 3, len(data) - 2):
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            assert run(*arguments) == Exit.VERIFICATION, (name, at)
            assert json.loads(capsys.readouterr().out)["status"] == "error"
            assert not (tmp_path / "out.jsonl").exists()
    finally:
        path.write_bytes(data)
    assert run("model", "verify", "--dir", member.folder, "--json") == Exit.OK
    shown = json.loads(capsys.readouterr().out)["data"]
    assert (shown["result"], shown["sequence"]) == ("verified", 2)
    assert shown["head"] is not None


def test_a_file_of_what_ran_before_is_refused_by_rolling_back(member, run):
    models = member.folder / MODELS
    previous = read_state(models).previous[0]
    assert previous.head is not None
    whole = models / previous.path
    for path in (whole / FILE_NAME, whole / TRANSCRIPT_NAME, models / previous.head.path):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        code = run("model", "rollback", "--dir", member.folder)
        path.write_bytes(data)
        assert code == Exit.VERIFICATION
    assert read_state(models).active.sequence == 2


def test_a_release_by_its_id(member, run):
    active = read_state(member.folder / MODELS).active
    command = ("model", "verify", active.release_id[:12], "--dir", member.folder)
    assert run(*command) == Exit.OK
    path = files(member)["transcript"]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run(*command) == Exit.VERIFICATION
    path.unlink()
    assert run(*command) != Exit.OK
    path.write_bytes(data)
