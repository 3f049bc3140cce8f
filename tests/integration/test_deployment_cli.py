"""`model list|show|verify|compare|activate|rollback` over a real alliance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from participant.cli import model as cli
from participant.deployment import service as service_module
from participant.deployment.fetch import installed_path
from participant.node.registry_client import channel_factory
from shared.errors import BadInput, Exit, NotFound, StateError, VerificationError
from shared.model.bundle import FILE_NAME
from tests.support.deployment import Member, knowing, records, served_member, sets_of

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

    assert data(member, "activate", old)["result"] == "activated"
    assert data(member, "activate", old[:8])["result"] == "already_active"
    compared = data(member, "compare", new)
    assert compared["would_activate"]
    assert compared["rivals"]["running"]["difference"] > 0
    assert "PR-AUC" in text(member, "compare", new)

    assert data(member, "activate", new[:10], "--dry-run")["result"] == "would_activate"
    assert data(member, "show")["release_id"] == old
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
    assert data(member, "show")["release_id"] == "local"
    assert [row["release_id"] for row in data(member, "list")["models"]] == ["local"]


def test_verify_accepts_a_bundle_and_refuses_a_flipped_byte_with_exit_code_7(member, tmp_path):
    release_id = member.publish(1, knowing(1.0))
    source = member.alliance.coordinator_dir / "releases" / release_id.hex()
    verified = data(member, "verify", str(source))
    assert (verified["result"], verified["release_id"]) == ("verified", release_id.hex())
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


def test_a_damaged_release_is_listed_as_damaged(member):
    release_id = member.publish(1, knowing(1.0))
    member.deployer().activate(release_id, channel_factory(member.folder))
    file = installed_path(member.folder, release_id) / FILE_NAME
    file.write_bytes(file.read_bytes()[:100])
    assert [row["status"] for row in data(member, "list")["models"]] == ["damaged"]


def test_what_is_pinned_stays_until_a_person_changes_it(member):
    first, second, third = (member.publish(n, knowing(0.4 + 0.2 * n)).hex() for n in (1, 2, 3))
    with pytest.raises(NotFound):
        data(member, "pin", first)
    data(member, "activate", first)
    assert data(member, "pin", first[:8], "--dry-run")["result"] == "would_be_pinned"
    assert not data(member, "show")["pinned"]
    assert data(member, "pin", first[:8])["result"] == "pinned"
    assert data(member, "pin", first)["result"] == "already_pinned"
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
