"""The phrase that two members read to each other over the telephone.

Both derive it from the alliance's id and their two identity keys, so it is the same on both sides
exactly if each has the other's true key. The words are the PGP word list's.

Strength: whoever sits between two members shows each of them a key of its own making in place of
the other's, and needs the two phrases to be equal. It may choose both keys, so it looks for a
collision, at the square root of the price: of 128 bits, 2^64 tries. Each is an evaluation of scrypt
(RFC 7914) that takes 64 MiB and some tenths of a second.
"""

from __future__ import annotations

import hashlib
import hmac

from participant.node.words import EVEN, ODD
from shared.encoding import Writer
from shared.errors import BadInput, VerificationError

DOMAIN = "touchstone/peer-phrase/v1"

WORDS = 16
"""One byte each. A collision of two phrases costs 2^64 evaluations of scrypt."""

SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 16, 8, 1
"""128 * N * r = 64 MiB and some tenths of a second: unnoticed once a call, not 2^64 times."""

_MEMORY = 2 * 128 * SCRYPT_N * SCRYPT_R


def phrase(alliance_id: bytes, own_key: bytes, peer_key: bytes) -> tuple[str, ...]:
    """Return the words for two members, the same whichever of the two asks.

    Args:
        alliance_id: 16 bytes.
        own_key: this member's raw Ed25519 identity key, 32 bytes.
        peer_key: the other's, as the accepted roster has it.

    Raises:
        BadInput: the two keys are one.
    """
    if own_key == peer_key:
        raise BadInput("a phrase is between two members", hint="name another member")
    writer = Writer(DOMAIN).fixed(alliance_id, 16)
    for key in sorted((own_key, peer_key)):
        writer.fixed(key, 32)
    bits = hashlib.scrypt(
        writer.done(),
        salt=DOMAIN.encode(),
        n=SCRYPT_N,
        r=SCRYPT_R,
        p=SCRYPT_P,
        maxmem=_MEMORY,
        dklen=WORDS,
    )
    return tuple((ODD if at % 2 else EVEN)[byte] for at, byte in enumerate(bits))


def check_phrase(heard: str, expected: tuple[str, ...]) -> None:
    """Compare what was read over the telephone with the phrase that belongs to the keys here.

    Args:
        heard: words in any case, apart by blanks, commas or hyphens.
        expected: of :func:`phrase`.

    Raises:
        BadInput: it is not a phrase; says which word is not one, or where one is missing.
        VerificationError: it is a phrase, but not of these keys.
    """
    words = heard.lower().replace(",", " ").replace("-", " ").split()
    for at, word in enumerate(words):
        if word not in _LISTS[at % 2]:
            raise BadInput(f"word {at + 1}: {_complaint(word, at)}", hint=_AGAIN)
    if len(words) != WORDS:
        raise BadInput(f"a phrase has {WORDS} words, not {len(words)}", hint=_AGAIN)
    if not hmac.compare_digest(" ".join(words), " ".join(expected).lower()):
        raise VerificationError(
            "the phrase is not that of the two keys",
            hint="do not train with this alliance until the two of you know why",
        )


_LISTS = (
    frozenset(word.lower() for word in EVEN),
    frozenset(word.lower() for word in ODD),
)
_AGAIN = "let it be read again, from the beginning"


def _complaint(word: str, at: int) -> str:
    if word in _LISTS[1 - at % 2]:
        return "out of place; one before it was left out, doubled or swapped"
    return f"{word[:40]!r} is not in the list"
