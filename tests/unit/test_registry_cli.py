"""`release list|show|verify` for the operator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from coordinator.cli import release as cli
from coordinator.enrolment.founding import found
from coordinator.registry.publish import TRANSCRIPT_NAME
from shared.clock import FixedClock
from shared.errors import Exit, NotFound, VerificationError
from shared.model.bundle import FILE_NAME
from tests.support.alliance import found_alliance
from tests.support.registry import release
from tests.support.release import AT, a_draft

app = typer.Typer()
cli.register(app)


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> tuple[Path, list[str]]:
    alliance = found_alliance(tmp_path_factory.mktemp("released"), [])
    database = alliance.database(FixedClock(AT))
    ids = [release(alliance, database, a_draft(number)).hex() for number in (1, 2)]
    database.close()
    return alliance.coordinator_dir, ids


def run(*arguments: str):
    result = CliRunner().invoke(app, [*arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_list_shows_every_release(state):
    folder, ids = state
    data = json.loads(run("release", "list", "--dir", str(folder), "--json"))["data"]
    assert [row["release_id"] for row in data["releases"]] == ids
    text = run("release", "list", "--dir", str(folder))
    assert all(one[:12] in text for one in ids)


@pytest.mark.parametrize("prefix", ["latest", None])
def test_show_takes_a_prefix_or_latest(state, prefix):
    folder, ids = state
    name = prefix or ids[1][:12]
    data = json.loads(run("release", "show", name, "--dir", str(folder), "--json"))["data"]
    assert (data["release_id"], data["sequence"], data["rounds"]) == (ids[1], 2, 3)
    assert data["metrics"] == {"pr_auc": "0.700000"}
    assert "0.700000" in run("release", "show", name, "--dir", str(folder))


def test_an_unknown_release_is_not_found(state):
    for verb in ("show", "verify"):
        with pytest.raises(NotFound):
            run("release", verb, "zz", "--dir", str(state[0]))


def test_verify_checks_one_or_all(state):
    folder, ids = state
    data = json.loads(run("release", "verify", "--dir", str(folder), "--json"))["data"]
    assert [(row["release_id"], row["records"]) for row in data["verified"]] == [
        (one, 3) for one in ids
    ]
    assert ids[0] in run("release", "verify", ids[0], "--dir", str(folder))


@pytest.mark.parametrize("name", [FILE_NAME, TRANSCRIPT_NAME])
def test_verify_fails_with_exit_code_7_for_a_flipped_byte(state, name):
    folder, ids = state
    file = folder / "releases" / ids[0] / name
    original = file.read_bytes()
    file.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    try:
        with pytest.raises(VerificationError) as caught:
            run("release", "verify", "--dir", str(folder))
        assert caught.value.exit_code == Exit.VERIFICATION
    finally:
        file.write_bytes(original)


def test_an_alliance_without_releases_says_so(tmp_path):
    found(tmp_path / "c", name="new", host="localhost", port=7443)
    assert run("release", "list", "--dir", str(tmp_path / "c")) == ""
    with pytest.raises(NotFound):
        run("release", "verify", "--dir", str(tmp_path / "c"))
