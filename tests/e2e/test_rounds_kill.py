"""``kill -9`` of the coordinator and of a member in either exchange, with real processes.

Afterwards the run completes, every sum is exact, and nobody released a round twice.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.rounds.launch import start_run
from coordinator.rounds.plan import RunSettings
from participant.deployment.state import read_state
from participant.node.witnesses import WitnessFile
from participant.store import Store
from shared.model.bundle import UnverifiedBundle
from shared.model.layout import ModelSpec, init_vector
from shared.trust.transcript import UnverifiedTranscript
from tests.support.alliance import Alliance, found_alliance
from tests.support.forked import Forked
from tests.support.reveals import revealed_once
from tests.support.run_process import ROUND, uploads
from tests.support.runs import BITS, SETTINGS, prepare_members
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SPEC = ModelSpec(hash_bits=BITS)
KEPT_UP_S = 500
ROUNDS = 4
NAMES = [f"member-{i}" for i in range(1, 6)]


class Processes:
    """Children that are started again when they die by SIGKILL, as a service manager would."""

    def __init__(self, logs: Path, on_death: Callable[[], None]) -> None:
        self.logs = logs
        self.on_death = on_death
        self.commands: list[list[str]] = []
        self.children: list[Forked] = []
        self.deaths = 0

    def start(self, *arguments: str) -> None:
        self.commands.append(list(arguments))
        (self.logs / f"{len(self.children)}.txt").touch()
        self.children.append(self._spawn(len(self.children)))

    def _spawn(self, number: int) -> Forked:
        log = self.logs / f"{number}.txt"
        return Forked("tests.support.run_process", self.commands[number], log)

    def keep_up(self) -> None:
        for number, child in enumerate(self.children):
            if child.poll() == -signal.SIGKILL:
                self.deaths += 1
                self.on_death()
                self.children[number] = self._spawn(number)

    def again(self, number: int) -> None:
        """Start a child that is no more, or is killed for it, anew."""
        self.children[number].kill()
        self.children[number].wait()
        self.children[number] = self._spawn(number)

    def connections(self, number: int) -> int:
        """Return how often child ``number`` has said that it reached the coordinator."""
        return (self.logs / f"{number}.txt").read_text().count("connected as member")

    def stop(self) -> None:
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()

    def said(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.logs.glob("*.txt")))


# Whoever is missing gets back in far less, even where a process takes a minute to start.
LIMITS = {"setup_s": 240, "away_s": 120, "mask_s": 240}
PLAIN = SETTINGS.model_copy(update={"rounds": ROUNDS, **LIMITS})
PRIVATE = RunSettings(**{**PLAIN.model_dump(), "dp_epsilon": 8.0})


def run_with_a_death(
    tmp_path: Path,
    who: str,
    point: str,
    settings: RunSettings = PLAIN,
    on_death: Callable[[], None] = lambda: None,
    *,
    leaver: int = 0,
    watched: list[Terminal] | None = None,
    afterwards: Callable[[Alliance, str, Processes], None] = lambda *_: None,
):
    """Run with one process that dies at ``point``, and whoever dies is started again.

    A ``leaver`` leaves in the second round, for good. Somebody may watch the run from its start on.
    """
    alliance = found_alliance(tmp_path, NAMES)
    database = alliance.database()
    prepare_members(alliance, database)
    (tmp_path / "logs").mkdir()
    processes, gate = Processes(tmp_path / "logs", on_death), tmp_path / "gate"
    coordinator = ["serve", "--dir", str(alliance.coordinator_dir)]
    try:
        processes.start(*coordinator, "--die", point if who == "coordinator" else "")
        for index, folder in enumerate(alliance.member_dirs.values(), 1):
            dies = point if who == "member" and index == 2 else ""
            dies = "leaves" if index == leaver else dies
            step = str(0.01 * index)
            held = ["--gate", str(gate)] if index == 1 else []
            processes.start("up", "--dir", str(folder), "--step", step, "--die", dies, *held)
        run_id = start_run(alliance.coordinator_dir, database, settings)
        if watched is not None:
            words = ["run", "watch", run_id[:8], "--dir", str(alliance.coordinator_dir)]
            watched.append(Terminal("-m", "coordinator", *words))

        def ended() -> bool:
            processes.keep_up()
            back = who == "coordinator" or processes.connections(2) >= 2
            if back and (not watched or f"round {ROUND + 1}/{ROUNDS}" in watched[0].seen):
                gate.touch()  # the killed member is back: it must take part in the last round
            return database.read("r", lambda unit: unit.runs.get(run_id)).state.terminal

        wait_until(ended, KEPT_UP_S)
        afterwards(alliance, run_id, processes)
    except AssertionError as error:
        pytest.fail(f"{error}\n{processes.said()}")
    finally:
        processes.stop()
        for terminal in watched or ():
            terminal.kill()
    return alliance, database, run_id, processes.deaths


def verified_release(alliance, database, run_id):
    """Return bundle and transcript of a run that everybody says was released once a round."""
    run = database.read("r", lambda unit: unit.runs.get(run_id))
    assert (run.state, run.reason) == (RunState.COMPLETED, "")
    folder = alliance.coordinator_dir / "releases" / run.release_id
    public = load_signing_key(alliance.coordinator_dir).public_key().public_bytes_raw()
    bundle = UnverifiedBundle.read(folder).verify(
        public, expected_feature_space=None, min_sequence=1
    )
    transcript = UnverifiedTranscript((folder / "transcript.bin").read_bytes()).verify(
        public,
        run_id=bundle.manifest.run_id,
        manifest_hash=bundle.manifest.run_manifest_hash,
        head=bundle.manifest.transcript_head,
    )
    assert [record.round for record in transcript.records] == list(range(1, ROUNDS + 1))
    answers = 0
    for member_dir in alliance.member_dirs.values():
        witnesses = WitnessFile(member_dir / "secsum", bytes.fromhex(run_id)).read()
        transcript.check_witnesses(witnesses)
        given = revealed_once(member_dir, run_id)
        told = {item.round: (item.slot, item.t2.hex(), item.bitmap.hex()) for item in witnesses}
        assert given.keys() <= told.keys()
        for number, item in given.items():
            assert (item.slot, item.t2, item.bitmap) == told[number]
        answers += len(given)
    assert answers >= ROUNDS * 4  # a round is opened by four; the fifth need not be asked
    return bundle, transcript


def check_exactly_once(alliance, database, run_id):
    bundle, transcript = verified_release(alliance, database, run_id)
    expected = 0.0
    for record in transcript.records:
        steps = [min(0.01 * i, 3.0 / np.sqrt(SPEC.n_params)) for i in record.survivors]
        expected += float(np.mean(steps))
    moved = bundle.vector - init_vector(SPEC, 0)
    assert np.abs(moved - expected).max() < 3 * 2.0**-15
    return transcript


COORDINATOR_POINTS = (
    "slot",
    "uploads",
    "bitmap",
    "first-share",
    "before-checkpoint",
    "after-checkpoint",
)


@pytest.mark.parametrize("point", COORDINATOR_POINTS)
def test_a_killed_coordinator_resumes_and_releases_no_round_twice(tmp_path, point):
    alliance, database, run_id, deaths = run_with_a_death(tmp_path, "coordinator", point)
    assert deaths == 1
    check_exactly_once(alliance, database, run_id)


def read_run(alliance: Alliance, run_id: str) -> Run:
    database = alliance.database()
    try:
        return database.read("r", lambda unit: unit.runs.get(run_id))
    finally:
        database.close()


def over(folder: Path, run_id: str, release_id: str) -> bool:
    """Tell whether a member has wiped the run's secrets and runs its release."""
    secrets = folder / "secsum"
    wiped = (secrets / f"agreed-{run_id}.bin").exists() and not [
        path for kind in ("session", "upload") for path in secrets.glob(f"{kind}-*.bin")
    ]
    active = read_state(folder / "models").active
    return wiped and active is not None and active.release_id == release_id


def await_over(alliance: Alliance, run_id: str, processes: Processes) -> None:
    """Wait until that is true of every member."""
    release_id = read_run(alliance, run_id).release_id

    def everywhere() -> bool:
        processes.keep_up()
        return all(over(folder, run_id, release_id) for folder in alliance.member_dirs.values())

    wait_until(everywhere)


def test_a_coordinator_killed_before_it_tells_of_the_end_tells_of_it_when_it_is_back(tmp_path):
    """Somebody watches meanwhile: the run is completed whoever has heard of it."""
    watched: list[Terminal] = []

    def afterwards(alliance: Alliance, run_id: str, processes: Processes) -> None:
        status, text = watched[0].ended()
        release_id = read_run(alliance, run_id).release_id
        assert (status, text.strip()) == (0, f"completed: release {release_id}")
        assert all(f"round {number}/{ROUNDS}" in watched[0].seen for number in (3, 4))
        assert "completed" in watched[0].seen
        await_over(alliance, run_id, processes)

    alliance, database, run_id, deaths = run_with_a_death(
        tmp_path, "coordinator", "completed", watched=watched, afterwards=afterwards
    )
    assert deaths == 1
    check_exactly_once(alliance, database, run_id)


def test_a_coordinator_killed_between_the_certificate_and_its_answers(tmp_path):
    """Member 5 leaves in that round, so that a certificate is needed, and comes back at the end.

    By then the coordinator that would have told it has been killed as well.
    """

    def afterwards(alliance: Alliance, run_id: str, processes: Processes) -> None:
        assert processes.children[5].poll() == 0, "it left"
        processes.again(0)
        processes.again(5)
        await_over(alliance, run_id, processes)

    alliance, database, run_id, deaths = run_with_a_death(
        tmp_path,
        "coordinator",
        "certificate",
        PLAIN.model_copy(update={"away_s": 5}),
        leaver=5,
        afterwards=afterwards,
    )
    assert deaths == 1
    transcript = check_exactly_once(alliance, database, run_id)
    assert [len(record.certificate) >= 4 for record in transcript.records].count(True) == 1
    assert transcript.records[ROUND - 1].survivors == (1, 2, 3, 4)


@pytest.mark.parametrize("point", ["training", "masked", "before-release", "released"])
def test_a_killed_member_comes_back_and_releases_no_round_twice(tmp_path, point):
    alliance, database, run_id, deaths = run_with_a_death(tmp_path, "member", point)
    assert deaths == 1
    transcript = check_exactly_once(alliance, database, run_id)
    assert 2 in transcript.records[-1].survivors


@pytest.mark.parametrize("point", ["charged", "noised", "mask-not-kept"])
def test_a_member_killed_after_its_charge_counts_once_too_much_at_most(tmp_path, point):
    folder = tmp_path / "members" / NAMES[1]
    at_death = []

    def look():
        at_death.append((charged(folder), {slot for slot, _ in uploads(folder)}))

    alliance, database, run_id, deaths = run_with_a_death(tmp_path, "member", point, PRIVATE, look)
    assert deaths == len(at_death) == 1
    assert 2 in verified_release(alliance, database, run_id)[1].records[-1].survivors
    [(before, gone)] = at_death
    assert len(before) == len(gone) + 1, "killed between the charge and the vector it is for"
    after, left = charged(folder), uploads(folder)
    assert after[: len(before)] == before
    assert set(Counter(after).values()) == {1}
    assert len(dict(left)) == len(set(left)), "a slot's vector never leaves as two"
    assert set(dict(left)) <= set(after), "nothing leaves that was not charged"
    assert len(after) <= len(dict(left)) + 1


def charged(folder):
    store = Store.open(folder, create=False)
    try:
        return [row.slot for row in store.ledger.entries() if row.kind == "training"]
    finally:
        store.close()
