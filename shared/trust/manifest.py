"""The run manifest: everything a member needs to know before it agrees to train.

The coordinator signs it once; a member checks it against its own policy and against nothing
else. What is not in here cannot be asked for later: a round outside these bounds is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from shared.clock import from_unix, to_unix
from shared.encoding import Reader, Writer
from shared.errors import BadInput, MalformedMessage, NotFound, VerificationError
from shared.limits import MAX_MEMBERS
from shared.privacy.terms import NOT_PRIVATE, PrivacyTerms
from shared.secagg.groups import MEAN, MEDIAN, MIN_MEDIAN_GROUPS, ROBUST
from shared.trust.errors import ManifestExpired
from shared.trust.grouping import UNGROUPED, Drawing
from shared.trust.names import check_purpose
from shared.trust.roster import RosterEntry

DOMAIN = "touchstone/run-manifest/v1"
SIGNED_DOMAIN = "touchstone/signed-run-manifest/v1"
KINDS = ("listing", "shop")
WEIGHTINGS = ("uniform", "bucketed")
MAX_EPOCHS = 1000
"""Passes over a member's records a round. An operator may ask for a hundred; a manifest that asks
for billions would keep a node busy for ever."""
_KEEPS = 1


@dataclass(frozen=True)
class SecureSumTerms:
    """The secure sum's parameters (docs: the secure sum, Setting and What is summed).

    Attributes:
        threshold: t, shares needed to open a secret.
        n_min: smallest survivor set that may be summed.
        max_colluders: m, members assumed to side with the coordinator.
        slots: one-time slots prepared by one session.
        value_bits: b, bits of one quantised value.
        lane_bits: L, bits of one lane; ``n * (2**b - 1) < 2**L``.
        clip_l2_milli: C in thousandths, L2 clip of one member's update.
        clip_coord_milli: c in thousandths, clip of one coordinate.
    """

    threshold: int
    n_min: int
    max_colluders: int
    slots: int = 32
    value_bits: int = 16
    lane_bits: int = 21
    clip_l2_milli: int = 3000
    clip_coord_milli: int = 1000


@dataclass(frozen=True)
class TrainingTerms:
    """Bounds of the local training the coordinator may ask for.

    Attributes:
        local_epochs: passes over the member's own training part a round.
        learning_rate_milli: SGD step in thousandths.
        batch_size: rows a step.
        full_weight_rows: with ``bucketed``, training rows from which a member weighs 1.
        weighting: ``uniform`` or ``bucketed`` (2^-k, k in 0..3, by the member's training rows).
    """

    local_epochs: int = 3
    learning_rate_milli: int = 300
    batch_size: int = 32
    full_weight_rows: int = 2000
    weighting: str = "uniform"

    def check(self, *, private: bool) -> None:
        """Refuse what nobody can train by, or would never be done with.

        Raises:
            MalformedMessage: a number is 0, or there are more than :data:`MAX_EPOCHS` passes.
        """
        # Private steps are over all records: there is no batch.
        used = [self.learning_rate_milli, self.full_weight_rows]
        if min(used if private else [*used, self.batch_size]) < 1:
            raise MalformedMessage("the run's training has a rate or size of 0")
        if not 1 <= self.local_epochs <= MAX_EPOCHS:
            raise MalformedMessage(f"the run's training has more than {MAX_EPOCHS} passes, or none")

    def weight(self, rows: int) -> float:
        """Return the weight of a member with ``rows`` training rows: a bucket, never a count."""
        if self.weighting == "uniform":
            return 1.0
        halvings = 0
        while halvings < 3 and rows << halvings < self.full_weight_rows:
            halvings += 1
        return 2.0**-halvings


@dataclass(frozen=True)
class EvaluationTerms:
    """How the incoming model is evaluated inside the secure sum.

    Attributes:
        every: evaluate every this many rounds, and in the last one.
        epsilon_milli: epsilon of the member's own discrete-Laplace noise a round, in thousandths.
        min_rows: a hold-out with fewer rows sends pure noise.
    """

    every: int = 5
    epsilon_milli: int = 1000
    min_rows: int = 200

    def __post_init__(self) -> None:
        """Refuse what no round can be evaluated by."""
        if self.every < 1 or self.epsilon_milli < 1:
            raise MalformedMessage("evaluations have a period and an epsilon above 0")


@dataclass(frozen=True)
class Timeouts:
    """Seconds the coordinator waits in each step.

    Attributes:
        setup_s: for each step of a set-up.
        mask_s: for the masked vectors, training included.
        away_s: for those still missing once all of them are disconnected. A stalled upload is
            the transport's business (:class:`shared.fleet.wire.Timing`), not a run's.
        unmask_s: for each unmask step, asked again for up to ten times that.
    """

    setup_s: int = 30
    mask_s: int = 3600
    away_s: int = 60
    unmask_s: int = 60


@dataclass(frozen=True)
class RunManifest:
    """What one training run is, who is asked, and under which terms.

    Attributes:
        alliance_id: 16 bytes, see :class:`~shared.trust.roster.Roster`.
        run_id: 16 random bytes.
        purpose: what the model is for, in words; policies allow purposes by name.
        kind: ``listing`` or ``shop``.
        rounds: training rounds.
        roster_epoch: epoch of the roster the members were taken from.
        roster_hash: R of that roster, 32 bytes.
        members: the members asked, ascending by index.
        coordinator_key: raw Ed25519 key that signs everything the coordinator says.
        model_spec: canonical encoding of the model's shape.
        feature_space: hash of the feature space, 32 bytes.
        schema_version: version of the record schema.
        initial_model: SHA-256 of the first model's float32 bytes.
        epsilon_floor_milli: a run with record-level differential privacy promises at most this
            epsilon (thousandths); 0 means the run does not use it.
        created_at: when the manifest was made.
        expires_at: after this no session may start or go on.
        robust: how the groups' sums are combined, ``mean`` or ``median-of-groups``.
        drawing: how members were dealt out to groups; nobody is grouped by default.
        privacy: the noise that every member adds for its records; none by default.
        keep_masked: whether the coordinator promises to keep every summed masked vector, so that
            anybody can do the sums again; an audit that finds one missing fails.
    """

    alliance_id: bytes
    run_id: bytes
    purpose: str
    kind: str
    rounds: int
    roster_epoch: int
    roster_hash: bytes
    members: tuple[RosterEntry, ...]
    coordinator_key: bytes
    model_spec: bytes
    feature_space: bytes
    schema_version: int
    initial_model: bytes
    epsilon_floor_milli: int
    created_at: datetime
    expires_at: datetime
    secure_sum: SecureSumTerms
    training: TrainingTerms
    evaluation: EvaluationTerms
    timeouts: Timeouts
    robust: str = MEAN
    drawing: Drawing = UNGROUPED
    privacy: PrivacyTerms = NOT_PRIVATE
    keep_masked: bool = False

    def __post_init__(self) -> None:
        """Refuse a manifest that could be read in two ways or makes no sense."""
        indices = [member.index for member in self.members]
        if any(index < 1 for index in indices) or indices != sorted(set(indices)):
            raise MalformedMessage("the manifest lists a member twice, out of order, or as index 0")
        try:
            check_purpose(self.purpose)
        except BadInput as error:
            raise MalformedMessage(error.message) from error
        if self.kind not in KINDS:
            raise MalformedMessage(f"a run of kind {self.kind!r} is not known")
        if self.training.weighting not in WEIGHTINGS:
            raise MalformedMessage(f"weighting {self.training.weighting!r} is not known")
        if not 1 <= self.rounds <= 10_000:
            raise MalformedMessage("a run has between 1 and 10,000 rounds")
        training = self.training
        steps = training.learning_rate_milli, training.local_epochs, training.batch_size
        # A private run has no batches: every step is over all records.
        if min(steps[:2] if self.private else steps) < 1:
            raise MalformedMessage("learning rate, epochs and batch of a run are above 0")
        if self.expires_at <= self.created_at:
            raise MalformedMessage("the manifest expires before it begins")
        self.drawing.check(len(indices))
        self.privacy.check(private=self.private)
        self.training.check(private=self.private)
        if self.private and self.training.weighting != "uniform":
            raise MalformedMessage("a member's weight would tell the size of its private records")
        if self.robust not in ROBUST:
            raise MalformedMessage(f"a sum of groups by {self.robust!r} is not known")
        if self.robust == MEDIAN and self.drawing.count < MIN_MEDIAN_GROUPS:
            raise MalformedMessage(f"a median needs at least {MIN_MEDIAN_GROUPS} groups")

    @property
    def private(self) -> bool:
        """Whether members add noise of their own for every record."""
        return self.epsilon_floor_milli > 0

    @property
    def grouped(self) -> bool:
        """Whether the members are summed in several groups."""
        return self.drawing.count > 1

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The members of each group, as the drawing's nonces decide; one group if not grouped."""
        return self.drawing.groups(self.roster_hash, [member.index for member in self.members])

    def group_of(self, index: int) -> int:
        """Return the number of a member's group, from 1; 0 where nobody is grouped.

        Raises:
            NotFound: the member is not listed.
        """
        for number, group in enumerate(self.groups, 1):
            if index in group:
                return number if self.grouped else 0
        raise NotFound(f"the manifest does not list member {index}")

    def peers_of(self, group: int) -> tuple[int, ...]:
        """Return a group's members; group 0 is everybody where nobody is grouped.

        Raises:
            NotFound: there is no such group.
        """
        if group != 0 if not self.grouped else not 1 <= group <= len(self.groups):
            raise NotFound(f"the manifest has no group {group}")
        return self.groups[max(0, group - 1)]

    def evaluates_in(self, round_number: int) -> bool:
        """Tell whether this round's sum carries the incoming model's evaluation."""
        return round_number % self.evaluation.every == 0 or round_number == self.rounds

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN)
        writer.fixed(self.alliance_id, 16).fixed(self.run_id, 16)
        writer.text(self.purpose).text(self.kind).u32(self.rounds)
        writer.u32(self.roster_epoch).fixed(self.roster_hash, 32)
        writer.u32(len(self.members))
        for member in self.members:
            writer.u32(member.index).text(member.member_id).fixed(member.public_key, 32)
        writer.fixed(self.coordinator_key, 32).blob(self.model_spec)
        writer.fixed(self.feature_space, 32).u32(self.schema_version)
        writer.fixed(self.initial_model, 32).u32(self.epsilon_floor_milli)
        writer.u64(to_unix(self.created_at)).u64(to_unix(self.expires_at))
        _write_terms(writer, self)
        self.drawing.write(writer.text(self.robust))
        self.privacy.write(writer)
        # Only a promise is written: a manifest from before there was one promises nothing.
        return (writer.u8(_KEEPS) if self.keep_masked else writer).done()

    @classmethod
    def decode(cls, data: bytes) -> RunManifest:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        manifest = cls(
            alliance_id=reader.fixed(16),
            run_id=reader.fixed(16),
            purpose=reader.text(),
            kind=reader.text(),
            rounds=reader.u32(),
            roster_epoch=reader.u32(),
            roster_hash=reader.fixed(32),
            members=tuple(
                RosterEntry(reader.u32(), reader.text(), reader.fixed(32))
                for _ in range(reader.u32(MAX_MEMBERS))
            ),
            coordinator_key=reader.fixed(32),
            model_spec=reader.blob(4096),
            feature_space=reader.fixed(32),
            schema_version=reader.u32(),
            initial_model=reader.fixed(32),
            epsilon_floor_milli=reader.u32(),
            created_at=_read_time(reader),
            expires_at=_read_time(reader),
            secure_sum=SecureSumTerms(*(reader.u32() for _ in range(8))),
            training=_read_training(reader),
            evaluation=EvaluationTerms(*(reader.u32() for _ in range(3))),
            timeouts=Timeouts(*(reader.u32() for _ in range(4))),
            robust=reader.text(),
            drawing=Drawing.read(reader),
            privacy=PrivacyTerms.read(reader),
            keep_masked=_read_promise(reader),
        )
        reader.end()
        return manifest

    def hash(self) -> bytes:
        """Return SHA-256 of the encoding, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()


def _read_promise(reader: Reader) -> bool:
    if reader.at_end:
        return False
    if reader.u8() != _KEEPS:
        raise MalformedMessage("the manifest promises what is not known")
    return True


def _read_training(reader: Reader) -> TrainingTerms:
    epochs, rate, batch, full = reader.u32(), reader.u32(), reader.u32(), reader.u32()
    return TrainingTerms(epochs, rate, batch, full, reader.text())


def _read_time(reader: Reader) -> datetime:
    seconds = reader.u64()
    if seconds > 253_402_300_799:  # the last second of the year 9999
        raise MalformedMessage("a time in the manifest is out of range")
    return from_unix(seconds)


def _write_terms(writer: Writer, manifest: RunManifest) -> None:
    terms, training = manifest.secure_sum, manifest.training
    for value in (
        terms.threshold,
        terms.n_min,
        terms.max_colluders,
        terms.slots,
        terms.value_bits,
        terms.lane_bits,
        terms.clip_l2_milli,
        terms.clip_coord_milli,
        training.local_epochs,
        training.learning_rate_milli,
        training.batch_size,
        training.full_weight_rows,
    ):
        writer.u32(value)
    writer.text(training.weighting)
    evaluation, timeouts = manifest.evaluation, manifest.timeouts
    for value in (
        evaluation.every,
        evaluation.epsilon_milli,
        evaluation.min_rows,
        timeouts.setup_s,
        timeouts.mask_s,
        timeouts.away_s,
        timeouts.unmask_s,
    ):
        writer.u32(value)


@dataclass(frozen=True)
class VerifiedManifest:
    """A manifest whose signature, signer and lifetime have been checked."""

    manifest: RunManifest
    hash: bytes

    def check_alive(self, now: datetime) -> None:
        """Check that the manifest is still in force.

        Raises:
            ManifestExpired: it is not.
        """
        if now >= self.manifest.expires_at:
            raise ManifestExpired("the run manifest has expired")


def sign_manifest(manifest: RunManifest, key: Ed25519PrivateKey) -> bytes:
    """Return the manifest with the coordinator's Ed25519 signature."""
    body = manifest.encode()
    signature = key.sign(SIGNED_DOMAIN.encode() + body)
    return Writer(SIGNED_DOMAIN).blob(body).fixed(signature, 64).done()


def verify_manifest(signed: bytes, coordinator_key: bytes, now: datetime) -> VerifiedManifest:
    """Check a signed manifest against the coordinator key this member has pinned.

    Raises:
        MalformedMessage: the bytes are no manifest.
        ManifestExpired: it has expired.
        VerificationError: another key signed it.
    """
    reader = Reader(signed, SIGNED_DOMAIN)
    body, signature = reader.blob(1 << 20), reader.fixed(64)
    reader.end()
    try:
        Ed25519PublicKey.from_public_bytes(coordinator_key).verify(
            signature, SIGNED_DOMAIN.encode() + body
        )
    except InvalidSignature as error:
        raise VerificationError("the run manifest is not signed by this coordinator") from error
    manifest = RunManifest.decode(body)
    if manifest.coordinator_key != coordinator_key:
        raise VerificationError("the run manifest names another coordinator key")
    verified = VerifiedManifest(manifest, manifest.hash())
    verified.check_alive(now)
    return verified
