"""How large a reply may be, by what was asked: no member is lent memory for more.

The limits are those of the application's actions; whoever answers ``query.consent`` has nothing to
say that takes more than a few hundred bytes.
"""

from __future__ import annotations

from shared.fleet.exchange import ADVERTISE, CONFIRM, SHARE
from shared.limits import MAX_MESSAGE_BYTES, MAX_SECAGG_FIELD_BYTES, MAX_SHORT_REPLY_BYTES

_SET_UP = frozenset({ADVERTISE, SHARE, CONFIRM})


def reply_limit(kind: str, asked_bytes: int) -> int:
    """Return the most bytes that a reply may have.

    Args:
        kind: the instruction's type. Training answers with a vector that is no longer than the
            model that came with the instruction: a masked vector has 8 bytes for three values, the
            model 12; the tail of a sum fits into the rest.
        asked_bytes: of the encoded instruction.
    """
    if kind.partition(".")[0] == "train":
        return min(asked_bytes + MAX_SHORT_REPLY_BYTES, MAX_MESSAGE_BYTES)
    if kind in _SET_UP:
        return MAX_SECAGG_FIELD_BYTES + MAX_SHORT_REPLY_BYTES
    return MAX_SHORT_REPLY_BYTES
