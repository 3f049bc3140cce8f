"""Folding text to what a reader sees: one column of strings to one array of code points.

NFKC, confusable skeleton, lower case, invisible characters and separators inside words removed.
The raw text stays a second input wherever it differs, because folding is lossy and the need to
fold is itself a signal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shared.model.features.confusables import DROP, TABLE_SIZE, skeleton_table

SPACE, BOUNDARY = 0x20, 0x0A
OTHER, LETTER, DIGIT, CJK = 0, 1, 2, 3

_SEPARATORS = ".-_*·'’~"
"""Removed between two letters: ``rep-lica`` and ``rep.lica`` read as ``replica``."""

_CJK_RANGES = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))


@dataclass(frozen=True, slots=True)
class Codes:
    """A column of texts as code points, every row between two spaces.

    Attributes:
        codes: uint32[n], code points of all rows, one after the other.
        rows: int32[n], the row each code point belongs to.
        count: number of rows.
    """

    codes: NDArray[np.uint32]
    rows: NDArray[np.int32]
    count: int

    def texts(self) -> list[str]:
        """Return every row as a string, without its outer spaces."""
        ends = np.searchsorted(self.rows, np.arange(1, self.count + 1))
        whole = self.codes.tobytes().decode("utf-32-le", "surrogatepass")
        starts = [0, *ends.tolist()][:-1]
        return [whole[a:b].strip(" ") for a, b in zip(starts, ends.tolist(), strict=True)]


@cache
def class_table() -> NDArray[np.uint8]:
    """Return uint8[0x10000]: OTHER, LETTER, DIGIT or CJK of every code point."""
    table = np.zeros(TABLE_SIZE, dtype=np.uint8)
    for code in range(TABLE_SIZE):
        character = chr(code)
        if character.isalpha():
            table[code] = LETTER
        elif character.isalnum():
            table[code] = DIGIT
    for low, high in _CJK_RANGES:
        table[low : high + 1][table[low : high + 1] != OTHER] = CJK
    return table


@cache
def _space_table() -> NDArray[np.bool_]:
    return np.array([chr(code).isspace() for code in range(TABLE_SIZE)], dtype=np.bool_)


@cache
def _separator_table() -> NDArray[np.bool_]:
    table = np.zeros(TABLE_SIZE, dtype=np.bool_)
    table[[ord(character) for character in _SEPARATORS]] = True
    return table


def classes(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the class of every code point; ideographs above the BMP are CJK, the rest OTHER."""
    found = class_table()[np.minimum(codes, TABLE_SIZE - 1)]
    above = codes >= TABLE_SIZE
    if above.any():
        found[above] = np.where((codes[above] >= 0x20000) & (codes[above] < 0x40000), CJK, OTHER)
    return found


def _encode(texts: Sequence[str]) -> NDArray[np.uint32]:
    joined = " \n ".join(text.replace("\n", " ") if "\n" in text else text for text in texts)
    if not joined.isascii():
        joined = unicodedata.normalize("NFKC", joined)
    data = f" {joined} ".encode("utf-32-le", "surrogatepass")
    return np.frombuffer(data, dtype=np.uint32)


def _layout(codes: NDArray[np.uint32], count: int) -> Codes:
    """Collapse white space and replace row boundaries by row numbers."""
    boundary = codes == BOUNDARY
    rows = np.cumsum(boundary, dtype=np.int32)
    space = _space_table()[np.minimum(codes, TABLE_SIZE - 1)]
    space &= ~boundary
    keep = ~boundary
    keep[1:] &= ~(space[1:] & space[:-1])
    tidy = codes[keep]
    tidy[space[keep]] = SPACE
    return Codes(tidy, rows[keep], count)


def raw_column(texts: Sequence[str]) -> Codes:
    """Return a column as written, in lower case and without folding."""
    joined = " \n ".join(text.replace("\n", " ") if "\n" in text else text for text in texts)
    data = f" {joined.lower()} ".encode("utf-32-le", "surrogatepass")
    return _layout(np.frombuffer(data, dtype=np.uint32).copy(), len(texts))


def fold_column(texts: Sequence[str]) -> Codes:
    """Return a column as a reader sees it.

    Args:
        texts: one string a row; missing texts are empty strings.

    Returns:
        The folded code points, in lower case.
    """
    codes = _encode(texts)
    low = np.minimum(codes, TABLE_SIZE - 1)
    folded = np.where(codes < TABLE_SIZE, skeleton_table()[low], codes).astype(np.uint32)
    column = _layout(folded[folded != DROP], len(texts))
    return _strip_spaced_letters(_strip_separators(column))


def _strip_separators(column: Codes) -> Codes:
    codes = column.codes
    separator = _separator_table()[np.minimum(codes, TABLE_SIZE - 1)]
    if not separator.any():
        return column
    letter = classes(codes) == LETTER
    drop = np.zeros(codes.size, dtype=np.bool_)
    drop[1:-1] = separator[1:-1] & letter[:-2] & letter[2:]
    return Codes(codes[~drop], column.rows[~drop], column.count)


def _strip_spaced_letters(column: Codes) -> Codes:
    """Join four or more single letters: ``v e l t r i n e`` and ``v.e.l.t.`` read as one word."""
    codes = column.codes
    if codes.size < 9:
        return column
    kind = classes(codes)
    single_class = (kind == LETTER) | (kind == DIGIT)
    alone = np.zeros(codes.size, dtype=np.bool_)
    alone[1:-1] = single_class[1:-1] & ~single_class[:-2] & ~single_class[2:]
    gap = np.zeros(codes.size, dtype=np.bool_)
    gap[1:-1] = alone[:-2] & alone[2:]
    gap &= (codes == SPACE) | _separator_table()[np.minimum(codes, TABLE_SIZE - 1)]
    padded = np.pad(gap, 4)
    here = slice(4, -4)
    before2, before4 = padded[2:-6], padded[:-8]
    after2, after4 = padded[6:-2], padded[8:]
    drop = padded[here] & ((before2 & before4) | (before2 & after2) | (after2 & after4))
    # Two rows are always two spaces apart, so a gap never joins letters of different rows.
    return Codes(codes[~drop], column.rows[~drop], column.count)
