"""Set-up as the coordinator runs it: collect, check, pass on, and name who broke it.

The book keeps the members' messages as they came: they are its whole state, and loading it is
checking them again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_GROUP, MAX_SECAGG_FIELD_BYTES
from shared.secagg import keys, wire
from shared.secagg.errors import (
    BadKey,
    BadMessage,
    OutOfOrder,
    RequestChanged,
    TermsRefused,
    TooFew,
)
from shared.secagg.evidence import SetupEvidence
from shared.secagg.messages import (
    HASH,
    ascending,
    encode_blobs,
    parse,
)
from shared.secagg.setup_messages import (
    Advertisement,
    Confirmation,
    Delivery,
    Part,
    ShareBundle,
    ShareCore,
    encode_deliveries,
    hash_t1,
    hash_t1c,
)
from shared.secagg.terms import DOMAIN, SessionTerms


class Step(IntEnum):
    """Which messages are due."""

    ADVERTISE = 0
    SHARE = 1
    CONFIRM = 2
    DONE = 3


@dataclass(frozen=True)
class SetupOutcome:
    """How set-up ended.

    Attributes:
        confirmed: U2, ascending; rounds choose participants from it. Empty after a complaint.
        complaints: (complainer, dealer) pairs, each signed by the complainer.
        culprits: members that are named alone: in complaints with more than m others.
        excluded: members the next session runs without (culprits, and both of each other pair).
        usable: no complaint was made.
    """

    confirmed: tuple[int, ...]
    complaints: tuple[tuple[int, int], ...]
    culprits: tuple[int, ...]
    excluded: tuple[int, ...]
    usable: bool


def attribute(
    complaints: Iterable[tuple[int, int]], max_colluders: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (culprits, excluded) of (complainer, dealer) pairs.

    At most m members cheat and honest members never complain about each other, so an honest
    member is in complaints with at most m others: whoever is in more is the culprit alone.
    """
    pairs = {frozenset(pair) for pair in complaints}
    members = set().union(*pairs) if pairs else set()
    culprits = {u for u in members if sum(u in pair for pair in pairs) > max_colluders}
    open_pairs = [pair for pair in pairs if not pair & culprits]
    return tuple(sorted(culprits)), tuple(sorted(culprits.union(*open_pairs)))


class SetupBook:
    """The coordinator's record of one session's set-up."""

    def __init__(self, terms: SessionTerms) -> None:
        self.terms = terms
        self.step = Step.ADVERTISE
        self.advertised: dict[int, bytes] = {}
        self.bundles: dict[int, ShareBundle] = {}
        self.parts: dict[tuple[int, int], Part] = {}
        self.answers: dict[int, bytes] = {}
        self.records: dict[int, tuple[bytes, ...]] = {}
        self.complaints: list[tuple[int, int]] = []
        self.t1 = self.t1c = b""
        self._adverts: dict[int, Advertisement] = {}
        self._replies: dict[int, bytes] = {}

    def _due(self, step: Step, members: Iterable[int], index: int) -> None:
        if self.step is not step:
            raise OutOfOrder(f"a message of step {step.name.lower()} is not due")
        if index not in members:
            raise OutOfOrder(f"member {index} has no part in this step", culprit=index)

    def add_advertisement(self, index: int, reply: bytes) -> None:
        """Take S0's answer; raises as :meth:`Coordinator.on_advertise` documents."""
        if _repeated(self.advertised, index, reply):
            return
        self._due(Step.ADVERTISE, self.terms.indices, index)
        body = wire.open_signed(reply, wire.ADVERTISE + "-reply", self.terms, index)
        adv = parse(Advertisement.decode, body, index)
        taken = {key for other in self._adverts.values() for key in (other.x25519, other.kem)}
        if not taken.isdisjoint({adv.x25519, adv.kem}):
            raise BadKey("a member advertised another's key", culprit=index)
        try:
            keys.agree(secrets.token_bytes(keys.KEY_BYTES), adv.x25519)
            keys.encapsulate(adv.kem)
        except ValueError as error:
            raise BadKey(f"member {index} advertised an unusable key", culprit=index) from error
        self.advertised[index], self._adverts[index] = reply, adv

    def close_advertising(self) -> bytes:
        """Fix U1 and T1; return the share request's body. Repeatable."""
        if self.step is Step.ADVERTISE:
            self._enough(self.advertised, "advertised keys")
            self.advertised = dict(sorted(self.advertised.items()))
            self.t1 = hash_t1(self.terms, self.advertised.values())
            self.step = Step.SHARE
        return encode_blobs(self.advertised.values())

    def add_shares(self, index: int, reply: bytes) -> None:
        """Take S1's answer: every digest, length and list must hold."""
        if _repeated(self._replies, index, reply):
            return
        self._due(Step.SHARE, self.advertised, index)
        bundle = parse(ShareBundle.decode, reply, index)
        body = wire.open_signed(bundle.core, wire.SHARE + "-core", self.terms, index)
        core = parse(ShareCore.decode, body, index)
        members = tuple(self.advertised)
        if core.t1 != self.t1 or tuple(v for v, _ in bundle.parts) != members:
            raise BadMessage(f"member {index} dealt under another view", culprit=index)
        if len(bundle.self_hashes) != self.terms.slots * HASH or (
            hashlib.sha256(bundle.self_hashes).digest() != core.self_hashes_digest
        ):
            raise BadMessage(f"member {index}'s commitments do not match", culprit=index)
        if core.digests != tuple((v, part.digest(index, v)) for v, part in bundle.parts):
            raise BadMessage(f"member {index}'s parts do not match their digests", culprit=index)
        try:
            for v, part in bundle.parts:
                part.check_sizes(index, v, self.terms.slots)
        except MalformedMessage as error:
            raise BadMessage(error.message, culprit=index) from error
        self._replies[index], self.bundles[index] = reply, bundle
        self.parts.update(((index, v), part) for v, part in bundle.parts)

    def confirm_body(self, index: int) -> bytes:
        """Fix who dealt and T1c; return the confirm request's body for one dealer. Repeatable."""
        if self.step is Step.SHARE:
            self._enough(self.bundles, "dealt shares")
            self.bundles = dict(sorted(self.bundles.items()))
            self.t1c = hash_t1c(self.t1, ((d, b.core) for d, b in self.bundles.items()))
            self.step = Step.CONFIRM
        self._due(Step.CONFIRM, self.bundles, index)
        return encode_deliveries(
            (dealer, Delivery(bundle.core, None if dealer == index else self.parts[dealer, index]))
            for dealer, bundle in self.bundles.items()
        )

    def add_confirmation(self, index: int, reply: bytes) -> None:
        """Take S2's answer, a confirmation or a complaint."""
        if _repeated(self.answers, index, reply):
            return
        self._due(Step.CONFIRM, self.bundles, index)
        if parse(wire.peek, reply, index).kind == wire.COMPLAINT:
            self._add_complaint(index, reply)
        else:
            body = wire.open_signed(reply, wire.CONFIRM + "-reply", self.terms, index)
            value = parse(Confirmation.decode, body, index)
            lower = sum(1 for v in self.advertised if v < index)
            size = lower * HASH + keys.TAG_BYTES
            if value.t1c != self.t1c:
                raise BadMessage(f"member {index} confirmed another view", culprit=index)
            if [len(record) for record in value.records] != [size] * self.terms.slots:
                raise BadMessage(f"member {index}'s records have a wrong length", culprit=index)
            self.records[index] = value.records
        self.answers[index] = reply

    def _add_complaint(self, index: int, reply: bytes) -> None:
        body = wire.open_signed(reply, wire.COMPLAINT, self.terms, index)
        blamed = parse(_decode_blamed, body, index)
        if not blamed or index in blamed or not set(self.bundles).issuperset(blamed):
            raise BadMessage(f"member {index} complains about nobody who dealt", culprit=index)
        self.complaints += [(index, dealer) for dealer in blamed]

    def finish(self) -> SetupOutcome:
        """Close S2; raises TooFew when nobody complained and too few confirmed."""
        if self.step < Step.CONFIRM:
            raise OutOfOrder("set-up has not come to its last step")
        culprits, excluded = attribute(self.complaints, self.terms.max_colluders)
        pairs = tuple(sorted(self.complaints))
        if pairs:
            self.step = Step.DONE
            return SetupOutcome((), pairs, culprits, excluded, usable=False)
        self._enough(self.records, "confirmed")
        self.step = Step.DONE
        return SetupOutcome(tuple(sorted(self.records)), (), (), (), usable=True)

    @property
    def ready(self) -> bool:
        """Rounds may begin."""
        return self.step is Step.DONE and not self.complaints

    def _enough(self, members: Iterable[int], what: str) -> None:
        count, floor = len(set(members)), max(self.terms.n_min, self.terms.threshold)
        if count < floor:
            raise TooFew(
                f"{count} members {what}, {floor} are needed",
                hint="wait for more members and start a new session",
            )

    def evidence(self) -> SetupEvidence:
        """Return what of a usable set-up anyone needs to recompute its rounds: no boxes."""
        if not self.ready:
            raise OutOfOrder("only a usable set-up has rounds")
        return SetupEvidence(
            advertisements=tuple(self.advertised.items()),
            cores=tuple((dealer, bundle.core) for dealer, bundle in self.bundles.items()),
            commitments=tuple((d, bundle.self_hashes) for d, bundle in self.bundles.items()),
        )

    def encode(self) -> bytes:
        """Return the record of a finished, usable set-up."""
        if not self.ready:
            raise OutOfOrder("only a usable set-up is stored")
        writer = Writer(DOMAIN + "setup").blob(self.terms.encode())
        for table in (self.advertised, self._replies, self.answers):
            writer.u32(len(table))
            for index in sorted(table):
                writer.u32(index).blob(table[index])
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> SetupBook:
        """Read :meth:`encode`'s bytes by taking every message again.

        Raises:
            MalformedMessage: the bytes are no finished, usable set-up.
            VerificationError: a message in it does not hold.
        """
        try:
            book = cls._read(Reader(data, DOMAIN + "setup"))
        except (OutOfOrder, TermsRefused, TooFew) as error:
            raise MalformedMessage(f"the stored set-up is damaged: {error.message}") from error
        if not book.ready:
            raise MalformedMessage("the stored set-up ended in complaints")
        return book

    @classmethod
    def _read(cls, reader: Reader) -> SetupBook:
        book = cls(SessionTerms.decode(reader.blob()))
        for index, message in _read_table(reader):
            book.add_advertisement(index, message)
        book.close_advertising()
        for index, message in _read_table(reader):
            book.add_shares(index, message)
        book.confirm_body(min(book.bundles, default=0))
        for index, message in _read_table(reader):
            book.add_confirmation(index, message)
        reader.end()
        book.finish()
        return book


def _repeated(table: dict[int, bytes], index: int, reply: bytes) -> bool:
    """Tell whether this very reply was taken before; other bytes name the member."""
    if index not in table:
        return False
    if table[index] != reply:
        raise RequestChanged(f"member {index} answered twice, differently", culprit=index)
    return True


def _decode_blamed(body: bytes) -> tuple[int, ...]:
    reader = Reader(body)
    blamed = ascending(reader.u32s(MAX_GROUP))
    reader.end()
    return blamed


def _read_table(reader: Reader) -> list[tuple[int, bytes]]:
    table = [
        (reader.u32(), reader.blob(MAX_SECAGG_FIELD_BYTES)) for _ in range(reader.u32(MAX_GROUP))
    ]
    ascending(index for index, _ in table)
    return table
