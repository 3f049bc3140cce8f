"""What both sides of a session agree on, and what a member demands on top."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.encoding import Reader, Writer
from shared.limits import MAX_GROUP, MAX_SECAGG_SLOTS
from shared.secagg.errors import TermsRefused
from shared.secagg.quantise import Quantiser

DOMAIN = "touchstone/secsum/v1/"
"""Prefix of every domain string; "v1" is the only negotiation there is."""

COORDINATOR = 0
"""The coordinator's index; members count from 1."""


def default_colluders(roster_size: int) -> int:
    """Return the members assumed to side with the coordinator: ``ceil(N / 3) - 1``."""
    return max(0, math.ceil(roster_size / 3) - 1)


def default_threshold(listed: int, max_colluders: int) -> int:
    """Return t for ``listed`` members: above two thirds, and above half of n + m.

    ``2t > n + m`` is what makes two different unmask stories impossible.
    """
    return max(2 * listed // 3, (listed + max_colluders) // 2) + 1


def default_n_min(threshold: int, max_colluders: int) -> int:
    """Return the smallest cohort: colluders can take out m members, at least 3 must remain."""
    return max(threshold, max_colluders + 3)


def listed_members(
    indices: Iterable[int], roster: Mapping[int, bytes]
) -> tuple[tuple[int, bytes], ...]:
    """Return sorted (index, Ed25519 public key) pairs taken from the caller's own roster.

    Raises:
        TermsRefused: an index is 0, repeated or not in the roster.
    """
    ordered = sorted(indices)
    if len(set(ordered)) != len(ordered):
        raise TermsRefused("the manifest lists a member twice")
    unknown = [index for index in ordered if index < 1 or index not in roster]
    if unknown:
        raise TermsRefused(f"the manifest lists members that the roster does not know: {unknown}")
    return tuple((index, roster[index]) for index in ordered)


@dataclass(frozen=True)
class SessionTerms:
    """The signed run manifest's part that the secure sum needs, plus the session's name.

    Attributes:
        manifest_hash: SHA-256 of the signed run manifest, 32 bytes.
        run_id: 16 bytes.
        session_id: 16 random bytes, new for each session.
        ordinal: sessions of a run are counted upwards from 1; a newer one closes all before.
        listed: sorted (roster index from 1, raw Ed25519 public key) of the manifest's members.
        coordinator_key: raw Ed25519 public key that signs every request.
        threshold: Shamir threshold t; t shares reconstruct, t - 1 say nothing.
        n_min: smallest number of members in U1, U and U3.
        max_colluders: members assumed to side with the coordinator, m.
        quantiser: how values become ring elements; see :class:`~shared.secagg.Quantiser`.
        slots: one-time masks prepared in a session, B.
    """

    manifest_hash: bytes
    run_id: bytes
    session_id: bytes
    ordinal: int
    listed: tuple[tuple[int, bytes], ...]
    coordinator_key: bytes
    threshold: int
    n_min: int
    max_colluders: int
    quantiser: Quantiser
    slots: int = 32

    @property
    def indices(self) -> tuple[int, ...]:
        """Indices of the listed members, ascending."""
        return tuple(index for index, _ in self.listed)

    def key_of(self, index: int) -> bytes:
        """Return the identity key of a member, or the coordinator's for index 0.

        Raises:
            TermsRefused: the index is not listed.
        """
        if index == COORDINATOR:
            return self.coordinator_key
        for listed, key in self.listed:
            if listed == index:
                return key
        raise TermsRefused(f"member {index} is not in the manifest")

    def validate(self) -> None:
        """Check that the terms can keep the promise at all.

        Raises:
            TermsRefused: lengths, order, threshold, cohort or lanes are impossible or unsafe.
        """
        n, t, m = len(self.listed), self.threshold, self.max_colluders
        for name, value, size in (
            ("manifest hash", self.manifest_hash, 32),
            ("run id", self.run_id, 16),
            ("session id", self.session_id, 16),
            ("coordinator key", self.coordinator_key, 32),
        ):
            if len(value) != size:
                raise TermsRefused(f"the {name} is not {size} bytes long")
        keys = [key for _, key in self.listed] + [self.coordinator_key]
        if any(len(key) != 32 for key in keys) or len(set(keys)) != len(keys):
            raise TermsRefused("an identity key is repeated or has the wrong length")
        if list(self.indices) != sorted(set(self.indices)) or min(self.indices, default=0) < 1:
            raise TermsRefused("the listed indices are not strictly ascending from 1")
        if n > MAX_GROUP:
            raise TermsRefused(f"{n} members do not fit one group of at most {MAX_GROUP}")
        if m < 0 or t < 2 or t > n or 2 * t <= n + m:
            raise TermsRefused(f"threshold {t} is unsafe for {n} members and {m} colluders")
        if not t <= self.n_min <= n:
            raise TermsRefused(f"a cohort of {self.n_min} does not lie between {t} and {n}")
        if not 1 <= self.slots <= MAX_SECAGG_SLOTS or not 1 <= self.ordinal < 1 << 32:
            raise TermsRefused("the slot count or the session's ordinal is out of range")
        self.quantiser.validate(n)

    def encode(self) -> bytes:
        """Return the canonical encoding that T1 hashes."""
        writer = Writer(DOMAIN + "terms").fixed(self.manifest_hash, 32).fixed(self.run_id, 16)
        writer.fixed(self.session_id, 16).u32(self.ordinal).u32(len(self.listed))
        for index, key in self.listed:
            writer.u32(index).fixed(key, 32)
        writer.fixed(self.coordinator_key, 32).u32(self.threshold).u32(self.n_min)
        writer.u32(self.max_colluders).blob(self.quantiser.encode()).u32(self.slots)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> SessionTerms:
        """Read :meth:`encode`'s bytes and validate them.

        Raises:
            MalformedMessage: not an encoding of terms.
            TermsRefused: as :meth:`validate`.
        """
        reader = Reader(data, DOMAIN + "terms")
        manifest_hash, run_id, session_id = reader.fixed(32), reader.fixed(16), reader.fixed(16)
        ordinal, count = reader.u32(), reader.u32(MAX_GROUP)
        listed = tuple((reader.u32(), reader.fixed(32)) for _ in range(count))
        coordinator_key, threshold, n_min = reader.fixed(32), reader.u32(), reader.u32()
        colluders, quantiser = reader.u32(), Quantiser.decode(reader.blob(256))
        slots = reader.u32()
        reader.end()
        terms = cls(
            manifest_hash, run_id, session_id, ordinal, listed, coordinator_key,
            threshold, n_min, colluders, quantiser, slots,
        )  # fmt: skip
        terms.validate()
        return terms

    def digest(self) -> bytes:
        """Return SHA-256 of :meth:`encode`, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True)
class MemberLimits:
    """A member's own policy; it only ever makes the terms stricter.

    Attributes:
        n_min: smallest cohort this member takes part in.
        max_colluders: colluders it wants to be safe against.
        pinned: indices of peers whose fingerprints a person here has checked.
        min_known_peers: pinned peers that must be in U1, in U and again in U3.
        burnt_rounds: times per run that a model may be trained again after a release of it.
    """

    n_min: int
    max_colluders: int
    pinned: frozenset[int] = field(default_factory=frozenset)
    min_known_peers: int = 2
    burnt_rounds: int = 2

    def check_terms(self, terms: SessionTerms, index: int) -> None:
        """Refuse terms weaker than this policy.

        Raises:
            TermsRefused: see the message.
        """
        terms.validate()
        if index not in terms.indices:
            raise TermsRefused("this member is not in the manifest")
        if terms.n_min < self.n_min:
            raise TermsRefused(
                f"the run allows a cohort of {terms.n_min}, this member's policy asks for "
                f"{self.n_min}",
                hint="lower n_min in policy.toml only if a smaller cohort is acceptable",
            )
        if 2 * terms.threshold <= len(terms.listed) + self.max_colluders:
            raise TermsRefused(
                f"threshold {terms.threshold} does not withstand {self.max_colluders} colluders",
                hint="lower max_colluders in policy.toml only with your peers' agreement",
            )
        self.check_set(terms, terms.indices, index, "the manifest")

    def check_set(
        self, terms: SessionTerms, members: Iterable[int], index: int, where: str
    ) -> None:
        """Refuse a set of members that is too small or has too few pinned peers.

        Raises:
            TermsRefused: see the message.
        """
        others = set(members)
        floor = max(self.n_min, terms.n_min, terms.threshold)
        if len(others) < floor:
            raise TermsRefused(f"{where} has {len(others)} members, at least {floor} are needed")
        known = len((others - {index}) & self.pinned)
        if known < self.min_known_peers:
            raise TermsRefused(
                f"{where} has {known} pinned peers, policy asks for {self.min_known_peers}",
                hint="pin peers whose fingerprints you have checked with them",
            )
