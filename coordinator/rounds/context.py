"""What every part of a running run needs."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.serverapp import Grid
from numpy.typing import NDArray

from coordinator.db import Database
from coordinator.db.records import RunState
from coordinator.rounds.book import GroupBook, RunBook, Tally
from coordinator.rounds.courier import Courier
from coordinator.rounds.errors import RunAborted, RunFailed, RunStopped
from coordinator.rounds.journal import Journal
from coordinator.rounds.plan import RunSettings
from shared.errors import VerificationError
from shared.model.layout import ModelSpec
from shared.trust.manifest import RunManifest, VerifiedManifest, verify_manifest

RUNS = "runs"


class RunContext:
    """One run's manifest, database rows, journal and way to its members.

    Args:
        directory: the coordinator's state folder.
        database: open.
        grid: any Flower grid.
        signing_key: the coordinator's.
        run_id: 16 bytes, a run in the database.
        stopping: true once the process is shutting down.

    Attributes:
        group: number of the group this is the view of, 0 for the run as a whole.

    Raises:
        RunFailed: the stored manifest is not this coordinator's, or has expired.
    """

    def __init__(
        self,
        directory: Path,
        database: Database,
        grid: Grid,
        *,
        signing_key: Ed25519PrivateKey,
        run_id: bytes,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.directory = directory
        self.database = database
        self.key = signing_key
        self.group = 0
        self.book = RunBook(database, run_id)
        self._grid = grid
        self.courier = Courier(grid, self.check_stop)
        self.journal = Journal(directory / RUNS / run_id.hex())
        self._stopping = stopping
        run = self.book.run()
        self.signed_manifest = run.manifest
        self.settings = RunSettings.model_validate(run.params)
        self.verified = self._verify()
        self.spec = ModelSpec.decode(self.manifest.model_spec)

    def _verify(self) -> VerifiedManifest:
        key = self.key.public_key().public_bytes_raw()
        try:
            return verify_manifest(self.signed_manifest, key, self.database.clock.now())
        except VerificationError as error:
            raise RunFailed("manifest", error.message) from error

    @property
    def manifest(self) -> RunManifest:
        """The run's manifest."""
        return self.verified.manifest

    def check_stop(self) -> None:
        """Return while the run may go on.

        Raises:
            RunStopped: the process is shutting down.
            RunAborted: the operator has ended the run.
            RunFailed: the manifest has expired.
        """
        if self._stopping():
            raise RunStopped("the coordinator is shutting down")
        if self.book.run().state is RunState.ABORTED:
            raise RunAborted("the operator aborted the run")
        if self.database.clock.now() >= self.manifest.expires_at:
            raise RunFailed("expired", "the run's manifest has expired")

    def for_group(self, number: int, tally: Tally, halted: Callable[[], bool]) -> RunContext:
        """Return the run as one group sees it: its own members, journal and entries in the book.

        Args:
            number: of the group, from 1.
            tally: adds up what the groups report of a try.
            halted: true once the other groups should stop as well.
        """
        own, stopping = copy(self), self._stopping
        own.group = number
        own._stopping = lambda: stopping() or halted()
        own.journal = self.journal.begin_group(number)
        own.book = GroupBook(self.database, self.manifest.run_id, number, tally)
        own.courier = Courier(self._grid, own.check_stop)
        return own

    def model(self) -> NDArray[np.float32]:
        """Return the newest checkpointed model, float32 [n_params]."""
        return self.journal.model(self.journal.checkpoint().trained, self.spec.n_params)

    def listed(self) -> frozenset[int]:
        """Return the indices that the manifest lists, in this group if it is one's view."""
        if self.group:
            return frozenset(self.manifest.peers_of(self.group))
        return frozenset(member.index for member in self.manifest.members)
