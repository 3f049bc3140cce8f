"""Characters that look like Latin letters, and characters that cannot be seen.

Our own short table, applied before lower-casing because a capital may look like another letter
than its small form does (Cyrillic В is a Latin B, в is not a b). It is deliberately smaller than
UTS #39: O and 0, l and 1 and I stay apart here; :mod:`shared.model.features.brand` treats those.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

TABLE_SIZE = 0x10000
"""The tables cover the Basic Multilingual Plane; NFKC has mapped the styled letters above it."""

DROP = 0
"""Table value of a character that is removed."""

# fmt: off
_LOOKALIKES = {
    # Cyrillic
    "А": "a", "а": "a", "В": "b", "С": "c", "с": "c", "Е": "e", "е": "e", "Н": "h", "һ": "h",
    "І": "i", "і": "i", "Ї": "i", "ї": "i", "Ј": "j", "ј": "j", "К": "k", "к": "k", "Ӏ": "l",
    "ӏ": "l", "М": "m", "м": "m", "О": "o", "о": "o", "Р": "p", "р": "p", "Ѕ": "s", "ѕ": "s",
    "Т": "t", "т": "t", "У": "y", "у": "y", "Ү": "y", "ү": "y", "Х": "x", "х": "x", "ԁ": "d",
    "Ԛ": "q", "ԛ": "q", "Ԝ": "w", "ԝ": "w", "ѵ": "v", "Ѵ": "v", "Ё": "e", "ё": "e", "п": "n",
    "г": "r", "ь": "b", "Ь": "b", "Ԍ": "g",
    # Greek
    "Α": "a", "α": "a", "Β": "b", "Ε": "e", "ε": "e", "Ζ": "z", "Η": "h", "η": "n", "Ι": "i",
    "ι": "i", "Κ": "k", "κ": "k", "Μ": "m", "Ν": "n", "ν": "v", "Ο": "o", "ο": "o", "Ρ": "p",
    "ρ": "p", "Τ": "t", "τ": "t", "Υ": "y", "υ": "u", "Χ": "x", "χ": "x", "γ": "y", "ω": "w",
    "σ": "o", "ϲ": "c", "Ϲ": "c", "ϳ": "j",
    # Armenian, Cherokee
    "օ": "o", "Օ": "o", "ո": "n", "ս": "u", "Տ": "s", "հ": "h", "զ": "q", "ց": "g", "յ": "j",
    "Ꭺ": "a", "Ꭼ": "e", "Ꮋ": "h", "Ꮖ": "i", "Ꭻ": "j", "Ꮶ": "k", "Ꮮ": "l", "Ꮇ": "m", "Ꮲ": "p",
    "Ꭱ": "r", "Ꮪ": "s", "Ꭲ": "t", "Ꮩ": "v", "Ꮃ": "w", "Ꮓ": "z", "Ꮯ": "c", "Ᏼ": "b", "Ꭰ": "d",
    "Ꮐ": "g",
    # Latin letters outside ASCII that do not decompose
    "ı": "i", "ɩ": "i", "ɑ": "a", "ɡ": "g", "ƅ": "b", "ɓ": "b", "ƈ": "c", "ɗ": "d", "đ": "d",
    "Đ": "d", "ɛ": "e", "ƒ": "f", "ħ": "h", "Ħ": "h", "ɨ": "i", "ƙ": "k", "ł": "l", "Ł": "l",
    "ŀ": "l", "ƚ": "l", "ɱ": "m", "ŋ": "n", "ø": "o", "Ø": "o", "ɵ": "o", "ƥ": "p", "ʂ": "s",
    "ŧ": "t", "Ŧ": "t", "ƭ": "t", "ʋ": "u", "ƴ": "y", "ʐ": "z", "ƶ": "z", "ᴀ": "a", "ʙ": "b",
    "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ꜰ": "f", "ɢ": "g", "ʜ": "h", "ɪ": "i", "ᴊ": "j", "ᴋ": "k",
    "ʟ": "l", "ᴍ": "m", "ɴ": "n", "ᴏ": "o", "ᴘ": "p", "ʀ": "r", "ꜱ": "s", "ᴛ": "t", "ᴜ": "u",
    "ᴠ": "v", "ᴡ": "w", "ʏ": "y", "ᴢ": "z",
}
# fmt: on

_INVISIBLE = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x0300, 0x036F),  # combining marks left over by NFKC
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x180B, 0x180F),
    (0x200B, 0x200F),  # zero-width space, joiners, direction marks
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),
)

_DECOMPOSING = ((0x00C0, 0x024F), (0x1E00, 0x1EFF))


def is_invisible(code: int) -> bool:
    """Tell whether a code point shows nothing and can therefore hide inside a word."""
    return any(low <= code <= high for low, high in _INVISIBLE)


@cache
def skeleton_table() -> NDArray[np.uint32]:
    """Return uint32[0x10000]: what each code point folds to, :data:`DROP` if it is removed.

    Latin letters lose their accents, look-alikes become the Latin letter, everything else its
    own lower-case form (where that is one code point).
    """
    table = np.arange(TABLE_SIZE, dtype=np.uint32)
    for code in range(TABLE_SIZE):
        lower = chr(code).lower()
        if len(lower) == 1 and ord(lower) < TABLE_SIZE:
            table[code] = ord(lower)
    for low, high in _DECOMPOSING:
        for code in range(low, high + 1):
            base = unicodedata.normalize("NFD", chr(code))[0].lower()
            if base.isascii():
                table[code] = ord(base)
    for character, latin in _LOOKALIKES.items():
        table[ord(character)] = ord(latin)
    for low, high in _INVISIBLE:
        table[low : high + 1] = DROP
    return table
