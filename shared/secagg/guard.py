"""What a member remembers of a run for good: rules that outlive sessions and restarts."""

from __future__ import annotations

from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.limits import MAX_RUN_ROUNDS
from shared.secagg.errors import RoundReleased, SlotClosed, TermsRefused
from shared.secagg.terms import DOMAIN


@dataclass
class RunGuard:
    """Per run and member; holds no secret. Write it (fsync) *before* the member's dump.

    Attributes:
        run_id: 16 bytes.
        last_released_round: highest round for which a share was given, 0 for none.
        session_ordinal: newest session joined, 0 for none.
        slot: highest slot masked in that session, -1 for none.
        released_models: SHA-256 of every model whose round was released.
        reopened_rounds: rounds that train a released model again (burnt before).
    """

    run_id: bytes
    last_released_round: int = 0
    session_ordinal: int = 0
    slot: int = -1
    released_models: tuple[bytes, ...] = ()
    reopened_rounds: tuple[int, ...] = ()

    def join(self, ordinal: int) -> None:
        """Enter a session; every earlier one is closed for good.

        Raises:
            SlotClosed: this or a newer session was joined before.
        """
        if ordinal <= self.session_ordinal:
            raise SlotClosed("a session as new as this one was joined before")
        self.session_ordinal = ordinal
        self.slot = -1

    def check_session(self, ordinal: int) -> None:
        """Raise SlotClosed unless ``ordinal`` is the newest session."""
        if ordinal != self.session_ordinal:
            raise SlotClosed("a newer session of the run has closed this one")

    def check_round(self, round_no: int) -> None:
        """Raise RoundReleased if a share was ever given for this or a later round."""
        if round_no <= self.last_released_round:
            raise RoundReleased(f"round {round_no} of this run has been released already")

    def open_slot(self, slot: int, round_no: int, model_sha256: bytes, burnt_limit: int) -> None:
        """Note that ``slot`` is used for ``round_no``; slots only go up.

        Raises:
            SlotClosed: this slot or a higher one was used.
            RoundReleased: the round was released.
            TermsRefused: the model was trained and released too often.
        """
        if slot <= self.slot:
            raise SlotClosed(f"slot {slot} or a later one has been used")
        self.check_round(round_no)
        again = model_sha256 in self.released_models and round_no not in self.reopened_rounds
        if again and len(self.reopened_rounds) >= burnt_limit:
            raise TermsRefused(
                f"this model was trained and released before, {burnt_limit} repeats are allowed",
            )
        if again:
            self.reopened_rounds = (*self.reopened_rounds, round_no)
        self.slot = slot

    def release(self, round_no: int, model_sha256: bytes) -> None:
        """Note the first share of a round; no round up to it is ever masked again."""
        self.last_released_round = max(self.last_released_round, round_no)
        if model_sha256 not in self.released_models:
            self.released_models = (*self.released_models, model_sha256)

    def dump(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN + "guard").fixed(self.run_id, 16).u32(self.last_released_round)
        writer.u32(self.session_ordinal).u32(self.slot + 1).u32(len(self.released_models))
        for model in self.released_models:
            writer.fixed(model, 32)
        return writer.u32s(self.reopened_rounds).done()

    @classmethod
    def load(cls, data: bytes) -> RunGuard:
        """Read :meth:`dump`'s bytes.

        Raises:
            MalformedMessage: not an encoding of a guard.
        """
        reader = Reader(data, DOMAIN + "guard")
        run_id, last, ordinal, slot = reader.fixed(16), reader.u32(), reader.u32(), reader.u32() - 1
        models = tuple(reader.fixed(32) for _ in range(reader.u32(MAX_RUN_ROUNDS)))
        reopened = reader.u32s(MAX_RUN_ROUNDS)
        reader.end()
        return cls(run_id, last, ordinal, slot, models, reopened)
