"""A finished run whose coordinator can be made to lie about it, and the audits of both sides."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator.cli.main import app as coordinator_app
from coordinator.db.records import RunState
from coordinator.enrolment.files import load_signing_key
from participant.cli.main import app as participant_app
from participant.deployment.fetch import TRANSCRIPT_NAME, fetch_release, installed_path
from participant.node.registry_client import channel_factory
from shared.console import run_app
from shared.fleet.exchange import MASKED
from shared.model.bundle import FILE_NAME, UnverifiedBundle, seal_bundle
from shared.trust.round_record import RoundRecord
from shared.trust.transcript import Transcript, UnverifiedTranscript
from tests.support.alliance import Alliance
from tests.support.registry import serving
from tests.support.runs import SETTINGS, Federation, federation
from tests.support.waiting import wait_until

LOST = 5
Records = tuple[RoundRecord, ...]


@dataclass
class Scene:
    """A finished run of two rounds, the second of which lost member 5, and its release."""

    root: Path
    alliance: Alliance
    run_id: str
    release_id: str

    @property
    def coordinator(self) -> Path:
        return self.alliance.coordinator_dir

    @property
    def member(self) -> Path:
        return self.alliance.dir_of("member-1")

    @property
    def published(self) -> Path:
        return self.coordinator / "releases" / self.release_id

    @property
    def installed(self) -> Path:
        return installed_path(self.member, bytes.fromhex(self.release_id))

    def copied(self, root: Path) -> Scene:
        """Return the same in another folder, to be tampered with."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        moved = {
            name: root / folder.relative_to(self.root)
            for name, folder in self.alliance.member_dirs.items()
        }
        folder = root / self.coordinator.relative_to(self.root)
        alliance = replace(self.alliance, coordinator_dir=folder, member_dirs=moved)
        return Scene(root, alliance, self.run_id, self.release_id)

    def bundle(self) -> Any:
        key = load_signing_key(self.coordinator).public_key().public_bytes_raw()
        return UnverifiedBundle.read(self.published).verify(
            key, expected_feature_space=None, min_sequence=1
        )

    def transcript(self) -> Transcript:
        return self.transcript_of(self.published)

    def transcript_of(self, folder: Path) -> Transcript:
        key = load_signing_key(self.coordinator).public_key().public_bytes_raw()
        data = (folder / TRANSCRIPT_NAME).read_bytes()
        return UnverifiedTranscript(data).verify(
            key,
            run_id=bytes.fromhex(self.run_id),
            manifest_hash=self.bundle().manifest.run_manifest_hash,
        )

    @property
    def journal(self) -> Path:
        return self.coordinator / "runs" / self.run_id

    def tell(
        self,
        folder: Path,
        records: Iterable[RoundRecord],
        vector: NDArray[np.float32] | None = None,
    ) -> None:
        """Let the coordinator sign other records, and a release that cites them."""
        key, bundle, old = load_signing_key(self.coordinator), self.bundle(), self.transcript()
        told = Transcript.start(old.run_id, old.manifest_hash)
        for record in records:
            told = told.append(record)
        manifest = replace(bundle.manifest, transcript_head=told.head, rounds=told.rounds_summed())
        (folder / FILE_NAME).write_bytes(
            seal_bundle(manifest, bundle.vector if vector is None else vector, key)
        )
        (folder / TRANSCRIPT_NAME).write_bytes(told.sign(key))


def play(folder: Path) -> Scene:
    """Return a finished run that kept its masked vectors, and member 1 with its release."""
    with federation(folder) as fed:
        scene = _run(fed)
    _install(scene)  # with the nodes gone: each would have fetched the release for itself
    assert [record.survivors for record in scene.transcript().records] == [
        (1, 2, 3, 4, 5),
        (1, 2, 3, 4),
    ]
    return scene


def _run(fed: Federation) -> Scene:
    fed.grid.lose_reply = lambda message: (
        message.metadata.message_type == MASKED
        and message.metadata.dst_node_id == LOST
        and message.metadata.group_id == "2"
    )
    run = fed.drive(fed.start(SETTINGS.model_copy(update={"rounds": 2, "keep_masked": True})))
    assert (run.state, run.reason) == (RunState.COMPLETED, "")
    assert run.release_id is not None
    await_end(fed, run.run_id)
    return Scene(fed.alliance.coordinator_dir.parent, fed.alliance, run.run_id, run.release_id)


def await_end(fed: Federation, run_id: str) -> None:
    """Wait until every member was told that the run is over; nobody waits for them otherwise."""
    kept = [folder / "secsum" for folder in fed.alliance.member_dirs.values()]
    wait_until(lambda: all((folder / f"agreed-{run_id}.bin").exists() for folder in kept))


def _install(scene: Scene) -> None:
    database = scene.alliance.database()
    with serving(scene.alliance, database):
        release_id = bytes.fromhex(scene.release_id)
        fetch_release(scene.member, release_id, channel_factory(scene.member), min_sequence=1)
    database.close()


Command = Callable[..., tuple[int, dict[str, Any]]]


def commands(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return what runs `run audit` as typed, and gives the exit code and the JSON data or error."""

    def run(side: str, *options: str, run_id: str = scene.run_id) -> tuple[int, dict[str, Any]]:
        mine = side == "member"
        app, folder = (
            (participant_app, scene.member) if mine else (coordinator_app, scene.coordinator)
        )
        words = ["touchstone", "run", "audit", run_id, "--dir", str(folder), *options, "--json"]
        monkeypatch.setattr(sys, "argv", words)
        status = run_app(app, "touchstone")
        answer = json.loads(capsys.readouterr().out)
        return status, answer.get("data") or answer["error"]

    return run


def flip(path: Path, at: int) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def changed(records: Records, **changes: object) -> Records:
    """Return the records with the last one altered."""
    return (*records[:-1], replace(records[-1], **changes))
