"""An in-memory alliance for the secure sum: real state machines, a network and disks that fail.

``World`` drives one coordinator and its members through every exchange. A ``fault`` sees each
message on its way and returns what arrives instead: nothing (lost), the same twice (repeated),
other bytes (altered), or an earlier one (delayed). Nodes write guard, upload and state in the
order the API asks for and can be killed after any of the writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.errors import TouchstoneError
from shared.secagg import (
    Coordinator,
    Layout,
    Member,
    MemberLimits,
    Quantiser,
    RoundSum,
    RunGuard,
    SessionTerms,
    SetupOutcome,
    build_vector,
    default_threshold,
    default_value_bits,
    wire,
)
from shared.secagg.errors import SlotClosed

Fault = Callable[[str, int, bytes], list[bytes]]
"""(step, member, bytes) -> what arrives; steps are "share", "share-reply", "masked-reply"..."""

MODEL = b"model " * 8
CONFIG = b"epochs=1"
RUN = b"run-id-of-16-byt"


def deliver(step: str, index: int, data: bytes) -> list[bytes]:
    """Lose nothing."""
    return [data]


def losing(lost: dict[int, str]) -> Fault:
    """Lose every message of a member from a step on: ``lost[index]`` names the first one."""
    order = ("advertise", "share", "confirm", "masked", "unmask", "release", "never")

    def fault(step: str, index: int, data: bytes) -> list[bytes]:
        gone = order.index(lost.get(index, "never"))
        return [] if order.index(step.removesuffix("-reply")) >= gone else [data]

    return fault


def kind_of(message: bytes) -> str:
    """Return a message's kind; a share bundle, which is no envelope, has none."""
    try:
        return wire.peek(message).kind
    except TouchstoneError:
        return ""


class Killed(Exception):
    """The process died at this write."""


def identity(index: int) -> Ed25519PrivateKey:
    """Return the fixed identity key of a member, or the coordinator's for 0."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"id%d" % index).digest())


def public(index: int) -> bytes:
    """Return the raw public half."""
    return identity(index).public_key().public_bytes_raw()


def make_terms(
    n: int = 5,
    *,
    colluders: int = 1,
    threshold: int | None = None,
    n_min: int | None = None,
    slots: int = 2,
    ordinal: int = 1,
    indices: Iterable[int] | None = None,
    bucketed: bool = False,
) -> SessionTerms:
    """Return terms for n members, weaker or stronger than the defaults where asked."""
    listed = tuple(indices) if indices is not None else tuple(range(1, n + 1))
    t = threshold or default_threshold(len(listed), colluders)
    return SessionTerms(
        manifest_hash=hashlib.sha256(b"manifest").digest(),
        run_id=RUN,
        session_id=hashlib.sha256(b"session%d" % ordinal).digest()[:16],
        ordinal=ordinal,
        listed=tuple((i, public(i)) for i in listed),
        coordinator_key=public(0),
        threshold=t,
        n_min=n_min or t,
        max_colluders=colluders,
        quantiser=Quantiser(default_value_bits(len(listed)), clip_coord=1.0, bucketed=bucketed),
        slots=slots,
    )


def limits_for(terms: SessionTerms, **changes: object) -> MemberLimits:
    """Return a policy that just accepts ``terms``, with every peer pinned."""
    values: dict[str, object] = {
        "n_min": terms.n_min,
        "max_colluders": terms.max_colluders,
        "pinned": frozenset(terms.indices),
        **changes,
    }
    return MemberLimits(**values)  # type: ignore[arg-type]


def update(index: int, round_no: int, n_params: int) -> NDArray[np.float32]:
    """Return a member's reproducible update."""
    generator = np.random.default_rng([index, round_no])
    return (generator.standard_normal(n_params) * 0.1).astype(np.float32)


@dataclass
class Disk:
    """What a node finds after it was killed."""

    guard: bytes = b""
    state: bytes = b""
    upload: bytes = b""


@dataclass
class Node:
    """A member's process: a state machine, a disk, and a fuse that burns down write by write."""

    index: int
    terms: SessionTerms
    limits: MemberLimits
    n_params: int = 10
    disk: Disk = field(default_factory=Disk)
    fuse: int | None = None
    member: Member | None = field(init=False)
    plain: dict[tuple[int, int, int], NDArray[np.uint64]] = field(default_factory=dict)
    released: set[tuple[int, int, int, bytes]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.guard = RunGuard(self.terms.run_id)
        self.begin(self.terms)

    def begin(self, terms: SessionTerms) -> None:
        """Enter a session, keeping the run's guard."""
        self.terms = terms
        self.member = Member.begin(
            index=self.index,
            signing_key=identity(self.index),
            terms=terms,
            limits=self.limits,
            guard=self.guard,
        )

    def _write(self, name: str, data: bytes) -> None:
        if self.fuse is not None:
            if self.fuse == 0:
                self.fuse = None
                raise Killed(name)
            self.fuse -= 1
        setattr(self.disk, name, data)

    def persist(self) -> None:
        """Write what must outlive the process, in the order the API documents."""
        self._write("guard", self.guard.dump())
        self._write("state", self.member.dump())

    def restart(self) -> None:
        """Forget the process, read the disk."""
        self.guard = (
            RunGuard.load(self.disk.guard) if self.disk.guard else RunGuard(self.terms.run_id)
        )
        if self.disk.state:
            self.member = Member.load(
                self.disk.state,
                signing_key=identity(self.index),
                limits=self.limits,
                guard=self.guard,
            )
        elif self.guard.session_ordinal < self.terms.ordinal:
            self.begin(self.terms)
        else:
            self.member = None  # the session was joined and its keys are gone

    def answer(self, request: bytes) -> bytes:
        """Handle any request but 'masked' and persist before answering."""
        if self.member is None:
            raise SlotClosed("this node waits for the next session")
        reply = self.member.handle(request)
        self.persist()
        if kind_of(reply) in ("unmask-reply", "release-reply"):
            slot = self.member._me.state.slot
            assert slot is not None
            self.released.add((slot.round, self.terms.ordinal, slot.slot, slot.bitmap))
        return reply

    def train(self, request: bytes, model: bytes = MODEL) -> tuple[bytes, bytes]:
        """Open the round, train, mask and persist; or repeat the stored answer."""
        opened = self.member.open_round(request, model)
        if opened.already_answered:
            stored = np.frombuffer(self.disk.upload, "<u8").astype(np.uint64)
            again = self.member.restore_upload(stored)
            return again.header, self.disk.upload
        self.persist()
        vector = build_vector(
            update(self.index, opened.round, self.n_params), 1.0, self.terms.quantiser
        )
        self.plain[self.terms.ordinal, opened.round, opened.slot] = vector.copy()
        upload = self.member.mask(vector)
        data = upload.vector.tobytes()
        self._write("guard", self.guard.dump())
        self._write("upload", data)
        self._write("state", self.member.dump())
        return upload.header, data


class World:
    """One coordinator, its members and the network between them."""

    def __init__(
        self,
        terms: SessionTerms,
        *,
        n_params: int = 10,
        fault: Fault = deliver,
        **policy: object,
    ) -> None:
        self.terms = terms
        self.n_params = n_params
        self.fault = fault
        self.layout = Layout(n_params, evaluates=False)
        limits = limits_for(terms, **policy)
        self.nodes = {i: Node(i, terms, limits, n_params) for i in terms.indices}
        self.coordinator = Coordinator.begin(terms=terms, signing_key=identity(0))
        self.refusals: list[TouchstoneError] = []
        self.log: dict[tuple[str, int], bytes] = {}
        self.journal: dict[str, bytes] = {}
        self.desk_fuse: int | None = None

    def save(self, *names: str) -> None:
        """Write the coordinator's journal, in the order given; the fuse may burn out."""
        for name in names:
            if self.desk_fuse is not None:
                if self.desk_fuse == 0:
                    self.desk_fuse = None
                    raise Killed(name)
                self.desk_fuse -= 1
            write = {
                "setup": self.coordinator.dump_setup,
                "accumulator": lambda: bytes(self.coordinator.accumulator()),
                "round": self.coordinator.dump_round,
            }
            self.journal[name] = write[name]()

    def restart_desk(self) -> None:
        """Kill the coordinator and read its journal."""
        self.coordinator = Coordinator.load(
            signing_key=identity(0),
            setup=self.journal["setup"],
            round_state=self.journal.get("round", b""),
            accumulator=self.journal.get("accumulator", b""),
        )

    def new_session(self, terms: SessionTerms) -> None:
        """Everybody enters a newer session of the same run."""
        self.terms = terms
        self.coordinator = Coordinator.begin(terms=terms, signing_key=identity(0))
        for index in terms.indices:
            self.nodes[index].begin(terms)

    def exchange(
        self,
        step: str,
        index: int,
        request: bytes,
        take: Callable[[int, bytes], None],
        answer: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Send one request and take what comes back; refusals are noted, not raised."""
        node = self.nodes[index]
        for arrived in self.fault(step, index, request):
            try:
                reply = (answer or node.answer)(arrived)
            except TouchstoneError as error:
                self.refusals.append(error)
                continue
            except Killed:
                node.restart()
                continue
            self.log[step, index] = reply
            for back in self.fault(step + "-reply", index, reply):
                try:
                    take(index, back)
                except TouchstoneError as error:
                    self.refusals.append(error)

    def settle(self) -> None:
        """Wait for a step's answers; here every exchange was over when it was made."""

    def setup(self) -> SetupOutcome:
        """Run S0, S1 and S2."""
        desk = self.coordinator
        for index in self.terms.indices:
            self.exchange("advertise", index, desk.advertise_request(), desk.on_advertise)
        self.settle()
        request = desk.share_request()
        for index in desk.advertised:
            self.exchange("share", index, request, desk.on_share)
        self.settle()
        for index in desk.dealers:
            self.exchange("confirm", index, desk.confirm_request(index), desk.on_confirm)
        self.settle()
        outcome = desk.finish_setup()
        if outcome.usable:
            self.save("setup", "round")
        return outcome

    def collect(self, round_no: int = 1, participants: Iterable[int] | None = None) -> bytes:
        """Run exchange 1 and return its request."""
        desk = self.coordinator
        chosen = tuple(participants) if participants is not None else desk.confirmed
        digest = hashlib.sha256(MODEL).digest()
        request = desk.open_round(round_no, chosen, digest, CONFIG, self.layout.words)
        self.save("round")
        for index in chosen:
            self.upload(index, request)
        self.settle()
        return request

    def upload(self, index: int, request: bytes) -> None:
        """One member's exchange 1; header and vector travel as one message."""

        def answer(arrived: bytes) -> bytes:
            header, data = self.nodes[index].train(arrived)
            return len(header).to_bytes(4, "big") + header + data

        def take(sender: int, reply: bytes) -> None:
            size = int.from_bytes(reply[:4], "big")
            data = reply[4 + size :]
            words = np.frombuffer(data[: len(data) // 8 * 8], "<u8").astype(np.uint64)
            self.coordinator.on_masked(sender, reply[4 : 4 + size], words)

        self.exchange("masked", index, request, take, answer)

    def unmask(self) -> RoundSum:
        """Run exchange 2, on whichever path is due, and finish."""
        desk = self.coordinator
        survivors = desk.close_masked()
        self.save("accumulator", "round")
        request = desk.unmask_request()
        for index in survivors:
            self.exchange("unmask", index, request, desk.on_unmask)
            self.save("round")
        self.settle()
        if desk.needs_release:
            request = desk.release_request()
            self.save("round")
            for index in survivors:
                self.exchange("release", index, request, desk.on_release)
                self.save("round")
            self.settle()
        return desk.finish_round()

    def round(self, round_no: int = 1, participants: Iterable[int] | None = None) -> RoundSum:
        """Run a whole round."""
        self.collect(round_no, participants)
        return self.unmask()

    def expected(self, result: RoundSum) -> NDArray[np.uint64]:
        """Return the plain sum over the survivors, from what each of them masked."""
        total = np.zeros(self.layout.words, dtype=np.uint64)
        for index in result.survivors:
            total += self.nodes[index].plain[self.terms.ordinal, result.round, result.slot]
        return total

    def assert_exact(self, result: RoundSum) -> None:
        """The sum is exactly the survivors' integers."""
        assert np.array_equal(result.vector, self.expected(result))


@dataclass
class Pending:
    """A message under way: a request with ``answer``, or a reply without."""

    index: int
    data: bytes
    take: Callable[[int, bytes], None]
    answer: Callable[[bytes], bytes] | None = None


class QueuedWorld(World):
    """A network that delivers a step's messages in any order, and one member's whenever it likes.

    Args:
        terms: of the session.
        order: draws who is next, and what of the slow member's is held back for a later step.
        slow: whose messages, requests and replies, may arrive steps late or rounds late.
    """

    def __init__(self, terms: SessionTerms, order: Random, slow: int) -> None:
        super().__init__(terms)
        self.order, self.slow = order, slow
        self.pending: list[Pending] = []
        self.held: list[Pending] = []
        self.late = 0

    def exchange(
        self,
        step: str,
        index: int,
        request: bytes,
        take: Callable[[int, bytes], None],
        answer: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Put a request on its way; :meth:`settle` delivers it."""
        self.pending.append(Pending(index, request, take, answer or self.nodes[index].answer))

    def settle(self) -> None:
        """Deliver what is under way, and what was held back in earlier steps, in a drawn order."""
        released, self.held = self.held, []
        self.late += len(released)
        self.pending += released
        while self.pending:
            item = self.pending.pop(self.order.randrange(len(self.pending)))
            if item.index == self.slow and item not in released and self.order.random() < HELD:
                self.held.append(item)
                continue
            try:
                if item.answer is None:
                    item.take(item.index, item.data)
                else:
                    reply = item.answer(item.data)
                    self.pending.append(Pending(item.index, reply, item.take))
            except TouchstoneError as error:
                self.refusals.append(error)


HELD = 0.3
"""How often a slow member's message is held back."""


def forge(world: World, kind: str, body: bytes, *, signer: int = 0) -> bytes:
    """Return a request that the coordinator, lying, signs with its real key."""
    return wire.seal(kind, world.terms, signer, body, identity(signer))


def snapshot(world: World) -> dict[int, Disk]:
    """Copy every node's disk."""
    return {i: replace(node.disk) for i, node in world.nodes.items()}


def restore(world: World, disks: dict[int, Disk]) -> None:
    """Put every node back to a snapshot."""
    for i, disk in disks.items():
        world.nodes[i].disk = replace(disk)
        world.nodes[i].restart()
