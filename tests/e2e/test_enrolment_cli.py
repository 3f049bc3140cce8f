"""The commands as a person types them: output, exit codes, nothing changed the second time."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from coordinator.cli import audit, init, member
from participant.cli import join
from shared.console import run_app
from shared.errors import Exit
from tests.support.alliance import Alliance, serving
from tests.support.ports import free_port, free_ports


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)["data"]
        return value


class Shell:
    """Runs the commands in this process."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self.coordinator_dir, self.folder = folder / "c", folder
        self._coordinator, self._participant = typer.Typer(), typer.Typer()
        for module in (init, member, audit):
            module.register(self._coordinator)
        join.register(self._participant)
        self._participant.callback()(lambda: None)

    def coordinator(self, *words: str) -> Outcome:
        return self._run(self._coordinator, [*words, "--dir", str(self.coordinator_dir)])

    def participant(self, name: str, *words: str) -> Outcome:
        return self._run(self._participant, [*words, "--dir", str(self.folder / name)])

    def _run(self, app: typer.Typer, words: list[str]) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["touchstone", *words])
        self._capsys.readouterr()
        code = run_app(app, "touchstone")
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    return Shell(capsys, monkeypatch, tmp_path)


def _found(shell: Shell) -> Alliance:
    port, enrolment_port = free_ports()
    words = ("init", "--name", "CLI", "--host", "127.0.0.1", "--port", str(port))
    assert shell.coordinator(*words).code == Exit.OK
    return Alliance("CLI", shell.coordinator_dir, {}, "127.0.0.1", port, enrolment_port)


def test_init_twice_prints_the_same_fingerprint_and_changes_nothing(shell: Shell) -> None:
    words = ("init", "--name", "CLI", "--host", "127.0.0.1", "--json")
    first = shell.coordinator(*words)
    files = {p: p.read_bytes() for p in (shell.coordinator_dir / "keys").iterdir()}
    second = shell.coordinator("init", "--name", "Other", "--host", "example.org", "--json")
    assert (first.code, second.code) == (Exit.OK, Exit.OK)
    assert first.data["result"] == "founded"
    assert second.data == {
        **first.data,
        "result": "already_founded",
        "not_applied": ["name", "host"],
    }
    assert "already_founded" in second.err
    assert "not applied: --name; the alliance keeps 'CLI'" in second.err
    moved = shell.coordinator(*words[:-1], "--port", "9000")
    assert (moved.code, "not applied: --port; the alliance keeps 7443" in moved.err) == (0, True)
    same = shell.coordinator(*words)
    assert same.data["not_applied"] == []
    assert "not applied" not in same.err
    assert {p: p.read_bytes() for p in (shell.coordinator_dir / "keys").iterdir()} == files
    assert len(first.data["ca_fingerprint"].split(":")) == 32


@pytest.mark.parametrize(
    "words",
    [
        ("--name", "", "--host", "h"),
        ("--name", "A", "--host", "not a host"),
        ("--name", "A", "--host", "h", "--port", "65535"),
        ("--name", "A"),
    ],
)
def test_init_refuses_what_cannot_work(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.coordinator("init", *words).code == Exit.USAGE
    assert not (shell.coordinator_dir / "coordinator.toml").exists()


def test_commands_before_init_say_what_to_do(shell: Shell) -> None:
    for words in (("member", "list"), ("audit", "verify")):
        outcome = shell.coordinator(*words)
        assert outcome.code == Exit.CONFIG
        assert "hint: run touchstone-coordinator init" in outcome.err


def test_from_invitation_to_membership(shell: Shell, tmp_path: Path) -> None:
    alliance = _found(shell)
    token = tmp_path / "token"
    invited = shell.coordinator("member", "invite", "brand", "--token-out", str(token), "--json")
    assert invited.code == Exit.OK
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    url = f"127.0.0.1:{alliance.port}"
    words = ("join", "--url", url, "--token-file", str(token), "--json")
    fingerprint = ("--ca-fingerprint", invited.data["ca_fingerprint"])
    with serving(alliance):
        joined = shell.participant("p", *words, *fingerprint)
        assert (joined.code, joined.data["result"]) == (Exit.OK, "joined")
        again = shell.participant("p", *words)
        assert (again.code, again.data["result"]) == (Exit.OK, "already_joined")
        assert "already_joined" in again.err
        used = shell.participant("q", *words)
        assert used.code == Exit.AUTH
        assert not (tmp_path / "q").exists(), "a refused join leaves no keys behind"
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "mine").touch()
        assert shell.participant("r", *words).code == Exit.AUTH
        assert [path.name for path in (tmp_path / "r").iterdir()] == ["mine"]
        assert "error: the token has been used already" in used.err
        assert json.loads(used.out)["error"]["code"] == "token_refused"
    rows = shell.coordinator("member", "list", "--json").data["members"]
    assert [(row["index"], row["member_id"], row["status"]) for row in rows] == [
        (1, "brand", "active")
    ]


def test_join_names_what_is_wrong(shell: Shell, tmp_path: Path) -> None:
    alliance = _found(shell)
    token = tmp_path / "token"
    shell.coordinator("member", "invite", "brand", "--token-out", str(token))
    down = shell.participant("p", "join", "--token-file", str(token))
    assert down.code == Exit.NETWORK
    assert "cannot be reached" in down.err
    assert "the keys made for it are kept" in down.err
    keys = {path: path.read_bytes() for path in (tmp_path / "p" / "keys").iterdir()}
    assert keys
    wrong = shell.participant(
        "p", "join", "--token-file", str(token), "--ca-fingerprint", ":".join(["00"] * 32)
    )
    assert wrong.code == Exit.AUTH
    assert "another fingerprint" in wrong.err
    missing = shell.participant("p", "join", "--token-file", str(tmp_path / "none"))
    assert missing.code == Exit.USAGE
    for url in ("http://127.0.0.1:7443", "https://a b:1", "host:0"):
        bad = shell.participant("p", "join", "--token-file", str(token), "--url", url)
        assert (bad.code, "is not HOST:PORT" in bad.err) == (Exit.USAGE, True)
        assert "members will reach" not in bad.err
    with serving(alliance):
        elsewhere = shell.participant(
            "p", "join", "--token-file", str(token), "--url", f"127.0.0.1:{free_port()}"
        )
        assert elsewhere.code == Exit.NETWORK
        late = shell.participant("p", "join", "--token-file", str(token), "--json")
        assert late.data["index"] == 1
        assert all(path.read_bytes() == key for path, key in keys.items())
    secret = token.read_text().split('token = "')[1][:64]
    for outcome in (down, wrong, missing, elsewhere, late):
        assert secret not in outcome.out + outcome.err


def test_invite_keeps_an_existing_file_and_bounds_the_time(shell: Shell, tmp_path: Path) -> None:
    _found(shell)
    (tmp_path / "token").write_text("mine")
    words = ("member", "invite", "brand", "--token-out")
    assert shell.coordinator(*words, str(tmp_path / "token")).code == Exit.CONFIG
    assert (tmp_path / "token").read_text() == "mine"
    for expires in ("0h", "soon", "31d", "-1h"):
        outcome = shell.coordinator(*words, str(tmp_path / "other"), f"--expires={expires}")
        assert outcome.code == Exit.USAGE, expires
    assert shell.coordinator(*words, str(tmp_path / "none" / "t")).code == Exit.CONFIG
    events = shell.coordinator("audit", "show", "--json").data["events"]
    assert [event["kind"] for event in events][-2:] == [
        "member.invited",
        "member.invitation_withdrawn",
    ]
    assert shell.coordinator("member", "list", "--json").data["members"] == []


def test_revoking(shell: Shell, tmp_path: Path) -> None:
    alliance = _found(shell)
    token = tmp_path / "token"
    shell.coordinator("member", "invite", "brand", "--token-out", str(token))
    with serving(alliance):
        shell.participant("p", "join", "--token-file", str(token))
    assert shell.coordinator("member", "revoke", "nobody").code == Exit.CONFIG
    results = [
        shell.coordinator("member", "revoke", "brand", *words, "--json").data["result"]
        for words in (("--dry-run",), (), (), ("--dry-run",))
    ]
    assert results == ["would_revoke", "revoked", "already_revoked", "already_revoked"]
    text = shell.coordinator("member", "list").out
    assert "brand" in text
    assert "revoked" in text


def test_the_audit_commands(shell: Shell) -> None:
    _found(shell)
    verified = shell.coordinator("audit", "verify", "--json")
    head = verified.data["head"]
    assert verified.data["events"] == 1
    assert shell.coordinator("audit", "verify", "--head", head).code == Exit.OK
    other = f"1:{'00' * 32}"
    assert shell.coordinator("audit", "verify", "--head", other).code == Exit.VERIFICATION
    assert shell.coordinator("audit", "verify", "--head", "nonsense").code == Exit.USAGE
    shown = shell.coordinator("audit", "show")
    assert "alliance.founded" in shown.out
    assert shell.coordinator("audit", "show", "--kind", "member.joined").out == ""
    assert shell.coordinator("audit", "show", "--kind", "no.such").code == Exit.USAGE
