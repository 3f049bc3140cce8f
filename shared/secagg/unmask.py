"""From shares to mask keys: what the coordinator takes off a masked sum, and whom it can name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.secagg import keys
from shared.secagg.coordinator_round import RoundBook
from shared.secagg.errors import InconsistentDealer, TooFew
from shared.secagg.member_setup import record_context
from shared.secagg.messages import HASH
from shared.secagg.shamir import interpolate, lagrange_at_zero


@dataclass(frozen=True)
class MaskKeys:
    """AES keys of the streams that are left in a masked sum: in it, and missing from it."""

    present: list[bytes]
    missing: list[bytes]


def mask_keys(book: RoundBook) -> MaskKeys:
    """Reconstruct every secret of the round and check it against its commitment.

    Raises:
        TooFew: fewer than t members have revealed their shares.
        InconsistentDealer: shares match their hashes, the secret does not; names the dealer.
    """
    secrets = _secrets(book)
    seeds = {lost: _pair_seeds(book, lost, secrets[lost]) for lost in book.lost}
    return left_over(book.t2, book.survivors, secrets, seeds)


def left_over(
    t2: bytes,
    survivors: Sequence[int],
    secrets: Mapping[int, int],
    seeds: Mapping[int, Mapping[int, bytes]],
) -> MaskKeys:
    """Return the streams that a sum over ``survivors`` still has in it, or lacks.

    Args:
        t2: the round's binding, 32 bytes.
        survivors: U3.
        secrets: b of every survivor.
        seeds: kappa by lost member and peer.
    """
    alive = set(survivors)
    present = [keys.self_mask_key(secrets[u], t2, u) for u in survivors]
    missing: list[bytes] = []
    for lost, peers in seeds.items():
        for peer, seed in peers.items():
            if peer not in alive:
                continue
            low, high = sorted((lost, peer))
            key = keys.pair_mask_key(seed, t2, low, high)
            # A pair's stream is added by the higher member and taken away by the lower one.
            (present if peer == high else missing).append(key)
    return MaskKeys(present, missing)


def reconstruct(shares: Mapping[int, Sequence[int]], threshold: int) -> list[int]:
    """Interpolate every dealer's secret from the first ``threshold`` members' shares.

    Args:
        shares: by responder, one share a dealer, in the same order for all.
        threshold: t.

    Raises:
        TooFew: fewer than t members have revealed their shares.
    """
    responders = sorted(shares)[:threshold]
    if len(responders) < threshold:
        raise TooFew(
            f"{len(responders)} members revealed their shares, {threshold} are needed",
            hint="ask the others again",
        )
    coefficients = lagrange_at_zero(responders)
    columns = zip(*(shares[r] for r in responders), strict=True)
    return [interpolate(coefficients, column) for column in columns]


def seeds_of_lost(
    lost: int, rho: int, record: bytes, context: bytes, *, t1c: bytes, members: Iterable[int]
) -> dict[int, bytes]:
    """Return kappa of one slot for every member of U1: from rho upwards, from Rec downwards.

    Args:
        lost: whose pairs.
        rho: its secret of the slot.
        record: its Rec of the slot.
        context: see :func:`~shared.secagg.member_setup.record_context`.
        t1c: the set-up's binding.
        members: U1.

    Raises:
        ValueError: Rec does not open under rho.
    """
    others = sorted(members)
    seeds = {v: keys.pair_seed(rho, v) for v in others if v > lost}
    cells = keys.decrypt(keys.recovery_key(rho, t1c), record, context)
    for place, v in enumerate(v for v in others if v < lost):
        seeds[v] = cells[place * HASH : (place + 1) * HASH]
    return seeds


def _secrets(book: RoundBook) -> dict[int, int]:
    """Return b of survivors and rho of the lost, by member; b is checked against H(b)."""
    at = book.request.slot * HASH
    participants = book.request.participants
    secrets = reconstruct(book.shares, book.setup.terms.threshold)
    found = dict(zip(participants, secrets, strict=True))
    for dealer in book.survivors:
        committed = book.setup.bundles[dealer].self_hashes[at : at + HASH]
        if keys.commit_self(found[dealer]) != committed:
            raise _inconsistent(dealer)
    return found


def _pair_seeds(book: RoundBook, lost: int, rho: int) -> dict[int, bytes]:
    """Return every dealer's kappa of a lost member's slot, checked against its dealer's hash."""
    setup, slot = book.setup, book.request.slot
    context = record_context(setup.t1c, lost, slot)
    record = setup.records[lost][slot]
    try:
        seeds = seeds_of_lost(lost, rho, record, context, t1c=setup.t1c, members=setup.advertised)
    except ValueError as error:
        raise _inconsistent(lost) from error
    seeds = {v: seed for v, seed in seeds.items() if v in setup.bundles}
    for v, seed in seeds.items():
        low, high = sorted((lost, v))
        hashes = setup.parts[low, high].pair_hashes
        if keys.commit_pair(seed) != hashes[slot * HASH : (slot + 1) * HASH]:
            raise _inconsistent(lost)
    return seeds


def _inconsistent(dealer: int) -> InconsistentDealer:
    return InconsistentDealer(
        f"member {dealer} dealt shares of something it did not commit to",
        culprit=dealer,
        hint="the round is burnt; the next session runs without this member",
    )
