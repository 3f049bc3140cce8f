"""Every command that changes state and offers `--dry-run` leaves the folder byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from coordinator.cli.main import app as coordinator_app
from coordinator.enrolment.service import invite, roster
from coordinator.rounds.launch import start_run
from coordinator.rounds.plan import RunSettings
from participant.cli.main import app as participant_app
from participant.node import registry_client
from participant.node.keystore import identity_key
from participant.node.peers import Peers, fingerprint
from shared.errors import NetworkError, TouchstoneError
from shared.trust.invitation import write_invitation
from tests.support.alliance import Alliance, found_alliance

NAMES = ["amber", "birch", "cedar"]


class Scene:
    """An alliance with a run, an invitation and a member that has accepted one roster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alliance: Alliance = found_alliance(folder, NAMES)
        self.coordinator = self.alliance.coordinator_dir
        self.member = self.alliance.dir_of("amber")
        database = self.alliance.database()
        self.roster = roster(database)
        self.run_id = start_run(self.coordinator, database, RunSettings(max_colluders=0))
        invitation = invite(self.coordinator, database, "dahlia")
        database.close()
        self.token = folder / "token"
        write_invitation(self.token, invitation)
        self.new = folder / "new"

    def accept(self) -> None:
        own = identity_key(self.member).public_key().public_bytes_raw()
        index = self.roster.by_name("amber").index
        Peers(self.member).accept(self.roster, own_index=index, own_key=own)

    def print_of(self, name: str) -> str:
        return fingerprint(self.roster.by_name(name).public_key)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    scene.accept()
    Peers(scene.member).pin("cedar", scene.print_of("cedar"))
    return scene


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
    }


def coordinator(*words: str) -> Callable[[Scene], tuple[typer.Typer, list[str]]]:
    return lambda at: (coordinator_app, [*_filled(at, words), "--dir", str(at.coordinator)])


def member(*words: str) -> Callable[[Scene], tuple[typer.Typer, list[str]]]:
    return lambda at: (participant_app, [*_filled(at, words), "--dir", str(at.member)])


def newcomer(*words: str) -> Callable[[Scene], tuple[typer.Typer, list[str]]]:
    app = coordinator_app if words[:2] == ("init", "--name") else participant_app
    return lambda at: (app, [*_filled(at, words), "--dir", str(at.new)])


def _filled(at: Scene, words: tuple[str, ...]) -> list[str]:
    known = {
        "RUN": at.run_id,
        "TOKEN": str(at.token),
        "OUT": str(at.folder / "out"),
        "BIRCH": at.print_of("birch"),
        "CEDAR": at.print_of("cedar"),
    }
    return [known.get(word, word) for word in words]


CASES = [
    (newcomer("init", "--name", "New", "--host", "localhost"), "would_found"),
    (coordinator("init", "--name", "New", "--host", "localhost"), "already_founded"),
    (coordinator("member", "invite", "elm", "--token-out", "OUT"), "would_invite"),
    (coordinator("member", "revoke", "amber"), "would_revoke"),
    (coordinator("run", "start", "--max-colluders", "0"), None),
    (coordinator("run", "abort", "RUN"), "would_abort"),
    (coordinator("cert", "renew"), "would_renew"),
    (newcomer("join", "--token-file", "TOKEN"), "would_join"),
    (newcomer("policy", "init"), None),
    (member("policy", "init"), None),
    (member("policy", "set", "threads", "8"), None),
    (member("peers", "accept"), None),
    (member("peers", "pin", "birch", "BIRCH"), None),
    (member("peers", "pin", "cedar", "CEDAR"), None),
    (member("peers", "unpin", "cedar"), None),
    (member("cert", "renew"), "would_renew"),
]


@pytest.mark.parametrize(("words", "result"), CASES)
def test_a_dry_run_leaves_every_byte_as_it_was(
    made: Scene,
    monkeypatch: pytest.MonkeyPatch,
    words: Callable[[Scene], tuple[typer.Typer, list[str]]],
    result: str | None,
) -> None:
    monkeypatch.setattr(registry_client, "fetch_roster", lambda _folder: made.roster)
    app, said = words(made)
    before = state(made.folder)
    done = CliRunner().invoke(app, [*said, "--dry-run", "--json"])
    assert done.exit_code == 0, done.exception
    told = json.loads(done.stdout)["data"]
    assert told.get("result") == result
    assert state(made.folder) == before


def test_a_dry_run_of_a_later_roster_only_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    monkeypatch.setattr(registry_client, "fetch_roster", lambda _folder: scene.roster)
    before = state(scene.folder)
    words = ["peers", "accept", "--dir", str(scene.member), "--json"]
    done = CliRunner().invoke(participant_app, [*words, "--dry-run"])
    told = json.loads(done.stdout)["data"]
    assert (told["dry_run"], told["already_accepted"]) == (True, False)
    assert [entry["member_id"] for entry in told["members"]] == NAMES
    assert state(scene.folder) == before
    done = CliRunner().invoke(participant_app, words)
    assert json.loads(done.stdout)["data"]["already_accepted"] is False
    assert Peers(scene.member).roster() == scene.roster


REFUSED = [
    coordinator("member", "invite", "amber", "--token-out", "OUT"),
    coordinator("member", "invite", "Elm", "--token-out", "OUT"),
    coordinator("member", "invite", "elm", "--token-out", "TOKEN"),
    coordinator("run", "abort", "ffff"),
    newcomer("init", "--name", "", "--host", "localhost"),
    member("join", "--token-file", "TOKEN"),
    member("peers", "pin", "birch", "CEDAR"),
    member("peers", "pin", "nobody", "CEDAR"),
]


@pytest.mark.parametrize("words", REFUSED)
def test_a_dry_run_refuses_what_the_command_refuses(
    made: Scene, words: Callable[[Scene], tuple[typer.Typer, list[str]]]
) -> None:
    app, said = words(made)
    before = state(made.folder)
    dry = CliRunner().invoke(app, [*said, "--dry-run"])
    assert isinstance(dry.exception, TouchstoneError)
    assert state(made.folder) == before
    wet = CliRunner().invoke(app, said)
    assert type(wet.exception) is type(dry.exception)
    shutil.rmtree(made.new, ignore_errors=True)


def test_a_dry_renewal_and_a_dry_join_reach_nobody(made: Scene) -> None:
    """The coordinator is not up: the commands themselves would end in a network error."""
    for words in (member("cert", "renew"), newcomer("join", "--token-file", "TOKEN")):
        app, said = words(made)
        assert CliRunner().invoke(app, [*said, "--dry-run"]).exit_code == 0
        assert isinstance(CliRunner().invoke(app, said).exception, NetworkError)
    shutil.rmtree(made.new, ignore_errors=True)
