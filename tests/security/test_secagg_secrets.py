"""Secrets stay where they belong: a whole run is searched for every one that its members drew."""

from __future__ import annotations

import base64
import logging
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import structlog

import shared.fleet.environment  # noqa: F401

# isort: split
from flwr.app import Context, RecordDict
from flwr.common.serde import recorddict_to_proto

from coordinator.app import app as server_app
from coordinator.db.records import RunState
from participant.node.keystore import identity_key
from participant.node.vault import Vault
from shared.fleet.exchange import MASKED
from shared.logs import log_to
from shared.secagg import Member, keys, member_round
from shared.secagg.member_state import CELL, MemberState
from tests.support.runs import SETTINGS, KnownLearner, federation

PIECE = 8
"""Bytes of each encoding that are looked for everywhere; a hit is then compared in full."""


@dataclass
class Secrets:
    """Every secret value that was seen being made, with its name."""

    values: dict[bytes, str] = field(default_factory=dict)
    revealed: set[bytes] = field(default_factory=set)
    modes: set[tuple[str, int]] = field(default_factory=set)

    def add(self, name: str, value: bytes) -> None:
        if any(value):
            self.values[bytes(value)] = name

    def of_state(self, state: MemberState) -> None:
        for name, rows in (("own b or rho", [state.own]), ("seed", state.seeds.values())):
            for row in rows:
                self._cells(name, row)
        for row in state.shares.values():
            self._cells("share", row)
        self.add("X25519 key", state.x25519)
        self.add("ML-KEM seed", state.kem_seed)

    def _cells(self, name: str, row: bytes | bytearray) -> None:
        for at in range(0, len(row), CELL):
            self.add(name, row[at : at + CELL])

    def found_in(self, data: bytes, *, but: set[bytes] = frozenset()) -> set[str]:
        """Return the names of secrets in ``data``: raw, hexadecimal or base64."""
        names: set[str] = set()
        for encode in (bytes, _hex, base64.b64encode):
            wanted = {encode(secret): name for secret, name in self.values.items()}
            hidden = {encode(secret) for secret in but}
            names |= {wanted[text] for text in _occurring(data, set(wanted) - hidden)}
        return names


def _hex(secret: bytes) -> bytes:
    return secret.hex().encode()


def _occurring(data: bytes, texts: set[bytes]) -> Iterator[bytes]:
    """Yield the texts that occur in ``data``, at whatever offset."""
    by_start: dict[int, list[bytes]] = {}
    for text in texts:
        by_start.setdefault(int.from_bytes(text[:PIECE], "little"), []).append(text)
    starts = np.array(sorted(by_start), dtype=np.uint64)
    for shift in range(PIECE):
        count = max(0, (len(data) - shift) // PIECE)
        window = np.frombuffer(data, "<u8", count, shift) if count else np.zeros(0, np.uint64)
        for place in np.flatnonzero(np.isin(window, starts)):
            at = shift + PIECE * int(place)
            for text in by_start[int(window[place])]:
                if data.startswith(text, at):
                    yield text


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """Watch every member of the run from inside."""
    seen = Secrets()
    dump, mask, box_key = Member.dump, member_round.mask, keys.box_key
    save, reveal = Vault.save, member_round.Reveal.encode

    def watched_dump(self: Member) -> bytes:
        seen.of_state(self._me.state)
        return dump(self)

    def watched_mask(me, slot, vector):  # type: ignore[no-untyped-def]
        seen.add("plain vector", vector[8:24].tobytes())
        return mask(me, slot, vector)

    def watched_box_key(*given):  # type: ignore[no-untyped-def]
        key = box_key(*given)
        seen.add("box key", key)
        return key

    def watched_save(self, run_id, *given):  # type: ignore[no-untyped-def]
        save(self, run_id, *given)
        for path in [self._dir, *self._dir.iterdir()]:
            seen.modes.add((path.name.split("-")[0], stat.S_IMODE(path.stat().st_mode)))

    def watched_reveal(self):  # type: ignore[no-untyped-def]
        seen.revealed |= {share for share, _ in self.shares}
        return reveal(self)

    def update(self, model, terms, *, seed, threads):  # type: ignore[no-untyped-def]
        delta = np.random.default_rng(seed).standard_normal(self.spec.n_params) * 0.01
        delta = delta.astype(np.float32)
        seen.add("plain update", delta[16:40].tobytes())
        return delta

    monkeypatch.setattr(Member, "dump", watched_dump)
    monkeypatch.setattr(member_round, "mask", watched_mask)
    monkeypatch.setattr(keys, "box_key", watched_box_key)
    monkeypatch.setattr(Vault, "save", watched_save)
    monkeypatch.setattr(member_round.Reveal, "encode", watched_reveal)
    monkeypatch.setattr(KnownLearner, "update", update)
    return seen


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Everything that any library logs, down to its debug messages."""
    root, flower = logging.getLogger(), logging.getLogger("flwr")
    before = root.handlers[:], root.level, flower.handlers[:], flower.propagate, flower.level
    config = structlog.get_config()
    path = tmp_path / "everything.log"
    log_to(path, logging.DEBUG)
    flower.setLevel(logging.DEBUG)
    yield path
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers[:], flower.handlers[:], flower.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
    flower.setLevel(before[4])
    structlog.configure(**config)


def files(folder: Path, *but: str) -> Iterator[Path]:
    """Return all files below a folder except those in the sub-folders named."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in but:
            yield path


def test_no_secret_of_a_run_is_written_anywhere_else(
    tmp_path: Path, secrets: Secrets, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with federation(tmp_path / "alliance") as fed:
        fed.grid.lose_reply = lambda m: (
            m.metadata.message_type == MASKED and m.metadata.dst_node_id == 5
        )
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 2}))
        config = {"state-dir": str(fed.alliance.coordinator_dir), "run-id": run_id}
        own = Context(7, 0, {}, RecordDict(), config)
        server_app(fed.grid, own)
        assert fed.run(run_id).state is RunState.COMPLETED
        members = list(fed.alliance.member_dirs.values())
        for folder in members:
            secrets.add("identity key", identity_key(folder).private_bytes_raw())
        contexts = [own, *fed.grid._contexts.values()]
        states = [recorddict_to_proto(c.state).SerializeToString() for c in contexts]
        assert len(states) == 6

        told, errors = capfd.readouterr()
        for text in (log.read_bytes(), told.encode(), errors.encode(), *states):
            assert secrets.found_in(text) == set()
        desk = fed.alliance.coordinator_dir
        searched = [p for folder in members for p in files(folder, "secsum", "keys")]
        told_files = [p for folder in members for p in folder.glob("secsum/told-*/*.bin")]
        assert len(told_files) >= 2 * 4
        searched += [*files(desk, "keys", "runs"), *told_files]
        for path in searched:
            assert secrets.found_in(path.read_bytes()) == set(), path
        # The journal holds the shares that were given to it, and no other secret.
        for path in files(desk / "runs"):
            assert secrets.found_in(path.read_bytes(), but=secrets.revealed) == set(), path

    kinds = set(secrets.values.values())
    assert kinds == {
        "own b or rho", "seed", "share", "X25519 key", "ML-KEM seed", "box key", "plain vector",
        "plain update", "identity key",
    }  # fmt: skip
    assert secrets.revealed
    assert len(log.read_bytes()) > 1000
    assert {path.suffix for path in searched} >= {".db", ".toml"}
    assert secrets.modes
    folders = {"secsum", "told"}
    assert all(mode == (0o700 if name in folders else 0o600) for name, mode in secrets.modes)
    for folder in [*members, desk]:
        assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700
        for path in (folder / "keys").glob("*.key.pem"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("encode", [bytes, _hex, base64.b64encode])
@pytest.mark.parametrize("offset", range(9))
def test_the_search_finds_a_secret_in_any_encoding_at_any_offset(encode, offset: int) -> None:  # type: ignore[no-untyped-def]
    secrets = Secrets()
    secrets.add("seed", bytes(range(100, 132)))
    secrets.add("share", bytes(range(32)))
    data = bytes(offset) + encode(bytes(range(100, 132))) + b"tail"
    assert secrets.found_in(data) == {"seed"}
    assert secrets.found_in(data[:-8]) == set()
    assert secrets.found_in(data, but={bytes(range(100, 132))}) == set()
