"""From shares to mask keys: what the coordinator takes off a masked sum, and whom it can name."""

from __future__ import annotations

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
    t2 = book.t2
    present = [keys.self_mask_key(secrets[u], t2, u) for u in book.survivors]
    missing: list[bytes] = []
    for lost in book.lost:
        for peer, seed in _pair_seeds(book, lost, secrets[lost]).items():
            if peer not in book.survivors:
                continue
            low, high = sorted((lost, peer))
            key = keys.pair_mask_key(seed, t2, low, high)
            # A pair's stream is added by the higher member and taken away by the lower one.
            (present if peer == high else missing).append(key)
    return MaskKeys(present, missing)


def _secrets(book: RoundBook) -> dict[int, int]:
    """Return b of survivors and rho of the lost, by member; b is checked against H(b)."""
    threshold = book.setup.terms.threshold
    responders = sorted(book.shares)[:threshold]
    if len(responders) < threshold:
        raise TooFew(
            f"{len(responders)} members revealed their shares, {threshold} are needed",
            hint="ask the others again",
        )
    coefficients = lagrange_at_zero(responders)
    at = book.request.slot * HASH
    found: dict[int, int] = {}
    for place, dealer in enumerate(book.request.participants):
        secret = interpolate(coefficients, [book.shares[r][place] for r in responders])
        committed = book.setup.bundles[dealer].self_hashes[at : at + HASH]
        if dealer in book.survivors and keys.commit_self(secret) != committed:
            raise _inconsistent(dealer)
        found[dealer] = secret
    return found


def _pair_seeds(book: RoundBook, lost: int, rho: int) -> dict[int, bytes]:
    """Return every kappa of a lost member's slot, each checked against its dealer's hash."""
    setup, slot = book.setup, book.request.slot
    seeds = {v: keys.pair_seed(rho, v) for v in setup.bundles if v > lost}
    lower = [v for v in setup.advertised if v < lost]
    try:
        cells = keys.decrypt(
            keys.recovery_key(rho, setup.t1c),
            setup.records[lost][slot],
            record_context(setup.t1c, lost, slot),
        )
    except ValueError as error:
        raise _inconsistent(lost) from error
    for place, v in enumerate(lower):
        if v in setup.bundles:
            seeds[v] = cells[place * HASH : (place + 1) * HASH]
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
