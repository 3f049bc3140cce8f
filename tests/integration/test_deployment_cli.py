"""`model list|show|verify|compare|activate|rollback` over a real alliance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from participant.cli import model as cli
from participant.deployment import service as service_module
from participant.deployment.active import MODELS, TRANSCRIPT_NAME
from participant.deployment.fetch import installed_path
from participant.deployment.state import FILE_NAME as STATE_NAME
from participant.deployment.state import read_state
from participant.node.registry_client import channel_factory
from shared.errors import BadInput, Exit, NotFound, StateError, VerificationError
from shared.model.bundle import FILE_NAME
from tests.support.deployment import Member, flip, knowing, records, served_member, sets_of

torch.set_num_threads(1)
app = typer.Typer()
cli.register(app)


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    monkeypatch.setattr(service_module, "training_sets", lambda _store: sets_of(records()))
    with served_member(tmp_path) as member:
        yield member


def text(member: Member, *arguments: str) -> str:
    command = ["model", *arguments, "--dir", str(member.folder)]
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def data(member: Member, *arguments: str) -> dict[str, Any]:
    return json.loads(text(member, *arguments, "--json"))["data"]


def test_before_the_first_model(member):
    assert data(member, "list") == {"models": []}
    for verb in ("show", "rollback"):
        with pytest.raises(NotFound):
            data(member, verb)


def test_from_the_catalogue_to_rolling_back(member):
    old, new = member.publish(1, knowing(0.4)).hex(), member.publish(2, knowing(1.0)).hex()
    remote = data(member, "list", "--remote")["models"]
    assert [(row["release_id"], row["status"]) for row in remote] == [
        (new, "remote"),
        (old, "remote"),
    ]

    assert data(member, "activate", old, "--dry-run")["result"] == "would_activate"
    assert data(member, "list") == {"models": []}
    assert data(member, "activate", old)["result"] == "activated"
    assert data(member, "activate", old, "--dry-run")["result"] == "already_active"
    assert data(member, "activate", old[:8])["result"] == "already_active"
    compared = data(member, "compare", new)
    assert compared["would_activate"]
    assert compared["rivals"]["running"]["difference"] > 0
    assert "PR-AUC" in text(member, "compare", new)

    assert data(member, "activate", new[:10], "--dry-run")["result"] == "would_activate"
    shown = data(member, "show")
    assert (shown["release_id"], shown["kept_back"]) == (old, [])
    assert data(member, "activate", new)["result"] == "activated"
    listed = {row["release_id"]: row["status"] for row in data(member, "list")["models"]}
    assert listed == {old: "previous", new: "active"}

    assert data(member, "rollback", "--dry-run")["release_id"] == old
    assert data(member, "show")["release_id"] == new
    rolled_back = data(member, "rollback")
    assert (rolled_back["result"], rolled_back["release_id"]) == ("rolled_back", old)
    assert data(member, "show")["release_id"] == old


def test_show_tells_what_runs_and_why(member):
    release_id = member.publish(1, knowing(1.0)).hex()
    data(member, "activate", release_id)
    shown = data(member, "show")
    assert (shown["release_id"], shown["active"], shown["reason"]) == (
        release_id,
        True,
        "operator",
    )
    assert shown["alliance_metrics"] == {"pr_auc": "0.700000"}
    assert [one["action"] for one in shown["decisions"]] == ["activate"]
    assert "you asked for it" in text(member, "show", release_id[:6])


def test_the_local_model(member):
    assert data(member, "activate", "local", "--dry-run")["result"] == "would_activate"
    assert data(member, "list") == {"models": []}
    assert data(member, "activate", "local")["result"] == "activated_local"
    assert data(member, "activate", "local", "--dry-run")["result"] == "already_active"
    assert data(member, "show")["release_id"] == "local"
    assert [row["release_id"] for row in data(member, "list")["models"]] == ["local"]
    verified = data(member, "verify")
    assert (verified["transcript"], verified["newer"]) == ("not_checked", False)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_without_records_there_is_no_local_model_and_a_dry_run_says_so(member, monkeypatch, dry):
    monkeypatch.setattr(service_module, "training_sets", lambda _store: sets_of(records(0)))
    with pytest.raises(NotFound) as caught:
        data(member, "activate", "local", *dry)
    assert caught.value.exit_code == Exit.CONFIG


@pytest.mark.parametrize(
    "command",
    [
        *(["list"], ["list", "--remote"], ["show"], ["verify"], ["compare", "ab" * 16]),
        *(["activate", "local"], ["activate", "local", "--dry-run"], ["activate", "ab" * 16]),
        *(["rollback"], ["pin", "local"], ["pin", "--off"], ["pin", "--off", "--dry-run"]),
    ],
    ids=" ".join,
)
def test_a_mistyped_folder_is_an_error_and_nothing_is_made_in_it(tmp_path, command):
    (tmp_path / "there").mkdir()
    for name in ("gone", "there"):
        folder = tmp_path / name
        result = CliRunner().invoke(app, ["model", *command, "--dir", str(folder)])
        assert isinstance(result.exception, StateError)
        assert "is not a node's folder" in result.exception.message
        assert result.exception.exit_code == Exit.CONFIG
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_verify_accepts_a_bundle_and_refuses_a_flipped_byte_with_exit_code_7(member, tmp_path):
    release_id = member.publish(1, knowing(1.0))
    source = member.alliance.coordinator_dir / "releases" / release_id.hex()
    verified = data(member, "verify", str(source))
    assert (verified["result"], verified["release_id"]) == ("verified", release_id.hex())
    assert (verified["transcript"], verified["newer"]) == ("verified", True)
    bare = data(member, "verify", str(source / FILE_NAME))
    assert (bare["transcript"], bare["newer"]) == ("not_checked", True)
    assert "transcript not checked; newer than all" in text(
        member, "verify", str(source / FILE_NAME)
    )
    altered = bytearray((source / FILE_NAME).read_bytes())
    altered[len(altered) // 2] ^= 1
    file = tmp_path / "altered.bundle"
    file.write_bytes(altered)
    with pytest.raises(VerificationError) as caught:
        text(member, "verify", str(file))
    assert caught.value.exit_code == Exit.VERIFICATION
    with pytest.raises(NotFound):
        text(member, "verify", str(tmp_path / "nothing"))


def test_a_bundle_cannot_be_verified_before_joining(member, tmp_path):
    release_id = member.publish(1, knowing(1.0))
    source = member.alliance.coordinator_dir / "releases" / release_id.hex()
    result = CliRunner().invoke(
        app, ["model", "verify", str(source), "--dir", str(tmp_path / "new")]
    )
    assert isinstance(result.exception, StateError)


def test_ids_that_mean_nothing_are_refused(member):
    with pytest.raises(BadInput):
        text(member, "activate", "latest!")
    with pytest.raises(NotFound):
        text(member, "activate", "abcd")
    with pytest.raises(NotFound):
        text(member, "activate", "ab" * 16)
    with pytest.raises(NotFound):
        text(member, "activate", "ab" * 16, "--offline")


def test_an_older_release_verifies_and_is_said_to_be_older(member):
    old, new = member.publish(1, knowing(0.4)).hex(), member.publish(2, knowing(1.0)).hex()
    data(member, "activate", old)
    source = member.alliance.coordinator_dir / "releases" / new
    data(member, "activate", new)
    for target in (old, new, str(source), str(source / FILE_NAME)):
        assert not data(member, "verify", target)["newer"], target
    assert "no newer than what ran here" in text(member, "verify", old)
    (member.folder / MODELS / STATE_NAME).write_text("damaged")
    assert not data(member, "verify", old)["newer"], "the audit log tells"


def test_a_release_that_is_damaged_or_gone_is_listed_so_even_if_it_is_what_runs(member):
    release_id = member.publish(1, knowing(1.0))
    member.deployer().activate(release_id, channel_factory(member.folder))
    folder = installed_path(member.folder, release_id)
    (folder / FILE_NAME).write_bytes((folder / FILE_NAME).read_bytes()[:100])
    row = data(member, "list")["models"][0]
    assert (row["status"], row["active"], row["sequence"]) == ("damaged", True, 1)
    shutil.rmtree(folder)
    row = data(member, "list")["models"][0]
    assert (row["status"], row["active"], row["kind"]) == ("missing", True, "listing")
    assert "missing, active" in text(member, "list")


def test_a_damaged_local_model_is_listed_as_damaged(member):
    data(member, "activate", "local")
    flip(member.folder / MODELS / read_state(member.folder / MODELS).active.path)
    assert [row["status"] for row in data(member, "list")["models"]] == ["damaged"]


def test_why_a_release_was_kept_is_told_where_one_looks_for_it(member):
    few = records(40)
    first, second = member.publish(1, knowing(0.5)).hex(), member.publish(2, knowing(1.0)).hex()
    third = member.publish(3, knowing(1.0)).hex()
    for release_id in (first, second, third):
        member.deploy(bytes.fromhex(release_id), few)
    listed = {row["release_id"]: row["why"] for row in data(member, "list")["models"]}
    assert (listed[second]["action"], listed[second]["reason"]) == ("keep", "holdout_too_small")
    assert listed[first]["reason"] == "first_model_unjudged"
    assert f"{second}  listing  installed  keep: holdout_too_small" in text(member, "list")
    kept = data(member, "show")["kept_back"]
    assert [(one["sequence"], one["release_id"]) for one in kept] == [(2, second), (3, third)]
    told = text(member, "show")
    assert f"kept back: number 3, {third}: your hold-out has too few labelled rows" in told
    assert "nothing changes until it has more, or you `model activate` it" in told
    assert "kept_back" not in data(member, "show", second)
    data(member, "activate", third)
    assert data(member, "show")["kept_back"] == [], "number 2 can no longer be activated"


def test_rolling_back_passes_over_what_is_damaged_and_says_so(member):
    ids = [member.publish(n, knowing(0.3 * n)).hex() for n in (1, 2, 3)]
    for release_id in ids:
        data(member, "activate", release_id)
    flip(installed_path(member.folder, bytes.fromhex(ids[1])) / TRANSCRIPT_NAME)
    for dry in (["--dry-run"], []):
        command = ["model", "rollback", *dry, "--json", "--dir", str(member.folder)]
        result = CliRunner().invoke(app, command)
        found = json.loads(result.stdout)["data"]
        assert (found["release_id"], found["skipped"]) == (ids[0], [ids[1]])
        assert f"{ids[1]} is damaged or gone, and was passed over" in result.stderr
    assert data(member, "show")["release_id"] == ids[0]
    assert "model.skipped" in member.kinds_of_events()
    with pytest.raises(NotFound):
        data(member, "rollback")


def test_what_is_pinned_stays_until_a_person_changes_it(member):
    first, second, third = (member.publish(n, knowing(0.4 + 0.2 * n)).hex() for n in (1, 2, 3))
    with pytest.raises(NotFound):
        data(member, "pin", first)
    data(member, "activate", first)
    assert data(member, "pin", first[:8], "--dry-run")["result"] == "would_be_pinned"
    assert not data(member, "show")["pinned"]
    assert data(member, "pin", first[:8])["result"] == "pinned"
    assert data(member, "pin", first)["result"] == "already_pinned"
    assert data(member, "pin", first, "--dry-run")["result"] == "already_pinned"
    assert data(member, "pin", "--off", "--dry-run")["result"] == "would_be_unpinned"
    assert data(member, "show")["pinned"]
    assert data(member, "list")["models"][0]["pinned"]
    assert "active, pinned" in text(member, "list")

    outcome = member.deployer().deploy(bytes.fromhex(second), channel_factory(member.folder))
    assert (outcome.decision, outcome.reason) == ("kept", "pinned")
    assert outcome.metrics["unpinned"] == {"accept": True, "reason": "not_worse"}
    assert data(member, "show")["release_id"] == first
    assert member.decisions()[-1] == (second, "keep", "pinned")
    assert "without the pin the rule would activate" in text(member, "show", second)

    assert data(member, "activate", third)["result"] == "activated"
    shown = data(member, "show")
    assert (shown["release_id"], shown["pinned"]) == (third, True)
    data(member, "rollback")
    shown = data(member, "show")
    assert (shown["release_id"], shown["pinned"]) == (first, True)

    assert data(member, "pin", "--off")["result"] == "unpinned"
    assert data(member, "pin", "--off")["result"] == "already_unpinned"
    assert data(member, "pin", "--off", "--dry-run")["result"] == "already_unpinned"
    assert not data(member, "show")["pinned"]
    kinds = member.kinds_of_events()
    assert (kinds.count("model.pinned"), kinds.count("model.unpinned")) == (1, 1)


def test_only_what_runs_can_be_pinned(member):
    old, new = member.publish(1, knowing(0.4)).hex(), member.publish(2, knowing(1.0)).hex()
    data(member, "activate", old)
    data(member, "activate", new)
    with pytest.raises(StateError):
        data(member, "pin", old)
    for wrong in ([], [new, "--off"]):
        with pytest.raises(BadInput):
            data(member, "pin", *wrong)
    assert not data(member, "show")["pinned"]


def test_the_local_model_can_be_pinned_too(member):
    data(member, "activate", "local")
    assert data(member, "pin", "local")["result"] == "pinned"
    outcome = member.deployer().deploy(
        member.publish(1, knowing(1.0)), channel_factory(member.folder)
    )
    assert outcome.reason == "pinned"
    assert data(member, "show")["release_id"] == "local"


def test_a_head_is_shown_with_what_it_brought(member, monkeypatch):
    own = sets_of(records(600, own=0.8))
    monkeypatch.setattr(service_module, "training_sets", lambda _store: own)
    release_id = member.publish(1, knowing(0.7)).hex()
    compared = data(member, "compare", release_id)
    assert compared["head"]["reason"] == "head_helps"
    assert compared["head"]["bare"]["difference"] > 0
    activated = data(member, "activate", release_id)
    shown = data(member, "show")
    assert activated["head"] == shown["head"] == compared["head"]["setting"]
    assert "personal head used: better than the bare release" in text(member, "show")
    assert "with a personal head" in text(member, "list")
    assert data(member, "verify")["head"] == shown["head"]
    data(member, "activate", member.publish(2, knowing(0.8)).hex(), "--no-head")
    assert data(member, "show")["head"] is None
    assert "personal head not tried" in text(member, "show")
