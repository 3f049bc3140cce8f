"""What the coordinator holds after a run, found by opening every file in its folder.

Nothing is taken on trust: the folder is read byte by byte, its database dumped, and what members
brought is looked for in all of it. What this cannot show, because it leaves no trace on a disk, is
that only masked vectors crossed the wire; the tests of the secure sum show that.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from participant.deployment.active import LoadedModel
from participant.store import Store
from shared.errors import InternalError, VerificationError
from shared.model.layout import ModelSpec, init_vector
from simulations.demo.alliance import Member
from simulations.demo.models import local_model
from simulations.demo.search import Needles

TEXTS = {
    "listings": ("listing_id", "url", "title", "description", "seller_id"),
    "complaints": ("complaint_id", "text"),
    "shops": ("host", "url"),
}
"""Columns whose values must not be found at the coordinator."""

SMALLEST_COUNT = 100
"""Numbers below this stand everywhere, and finding one would tell nothing."""

_PURPOSES = (
    ("keys/*", "the alliance's keys and certificates"),
    ("touchstone.db*", "members, runs, rounds, releases, audit log"),
    ("runs/*/model-*", "the alliance's model after the last two rounds"),
    ("runs/*/transcript/*", "a record of each round: who was summed, digests"),
    ("runs/*", "manifest and journal of the run"),
    ("releases/*", "the released bundle"),
    ("coordinator.log*", "the service's log"),
    ("*", "configuration and locks"),
)


@dataclass(frozen=True)
class Holding:
    """Files of one purpose: how many, and bytes in all."""

    purpose: str
    files: int
    size: int


@dataclass(frozen=True)
class Exposure:
    """What was found in the coordinator's folder.

    Attributes:
        holdings: everything in it, by purpose.
        searched_bytes: bytes that were searched.
        texts: texts of members that were looked for (ids, titles, descriptions, hosts …).
        model_pieces: pieces of the members' own local-only models that were looked for.
        counts: numbers looked for: each member's records and training rows.
        vectors: files large enough to hold one member's update, relative path.
        largest_value: bytes of the largest value in any table of the database.
    """

    holdings: tuple[Holding, ...]
    searched_bytes: int
    texts: int
    model_pieces: int
    counts: int
    vectors: tuple[str, ...]
    largest_value: int


class Leaked(VerificationError):
    """Something of a member was found at the coordinator."""

    code = "demo_leaked"


def examine(folder: Path, members: Iterable[Member], spec: ModelSpec, *, known: str) -> Exposure:
    """Search a coordinator's folder for anything that only a member should have.

    Args:
        folder: the coordinator's state folder.
        members: their nodes' folders are read for what to look for.
        spec: of the model that was trained.
        known: a text that the coordinator has for certain; the search has to find it.

    Raises:
        Leaked: a text, a count or a vector of a member is there.
        InternalError: the search does not find ``known``.
    """
    members = list(members)
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    texts, counts = Needles(_texts(members)), _counts(members)
    models = Needles(piece for member in members for piece in _pieces(local_model(member)))
    control = Needles([known.encode()])
    dump, largest = _database(folder / "touchstone.db")
    written = dump + b"".join(data for path, data in files.items() if ".log" in path.name)
    haystacks = [*files.values(), dump]
    found: set[bytes] = set()
    for data in haystacks:
        found |= texts.found_in(data) | models.found_in(data)
    numbers = {int(token) for token in re.findall(rb"(?<![\w.-])\d{3,9}(?![\w.-])", written)}
    vectors = [path for path, data in files.items() if len(data) >= _smallest_update(spec)]
    strangers = [path for path in vectors if not _explained(path.relative_to(folder))]
    exposure = Exposure(
        holdings=_holdings(folder, files),
        searched_bytes=sum(map(len, haystacks)),
        texts=len(texts),
        model_pieces=len(models),
        counts=len(counts),
        vectors=tuple(str(path.relative_to(folder)) for path in vectors),
        largest_value=largest,
    )
    if not any(control.found_in(data) for data in haystacks):
        raise InternalError("the search does not find even what the coordinator has for certain")
    if found or numbers & counts or strangers or largest >= _smallest_update(spec):
        raise Leaked(
            f"the coordinator's folder holds {len(found)} texts or model pieces and "
            f"{len(numbers & counts)} counts of members, {len(strangers)} unexplained vectors, "
            f"and a database value of {largest} bytes"
        )
    return exposure


def _texts(members: list[Member]) -> set[bytes]:
    """Return every text looked for, as UTF-8 and as JSON writes it."""
    found: set[str] = set()
    for member in members:
        for kind, columns in TEXTS.items():
            frame = _frame(member, kind)
            for column in columns:
                found.update(frame[column].drop_nulls())
    return {text.encode() for text in found} | {json.dumps(text)[1:-1].encode() for text in found}


def _pieces(model: LoadedModel) -> set[bytes]:
    """Return pieces of a member's own model, as they would lie in a file.

    Pairs of neighbouring wide weights, which start at zero, and the embeddings that training has
    moved: those it has not are the same at every member and in the alliance's model.
    """
    spec, vector = model.spec, np.ascontiguousarray(model.vector, dtype="<f4")
    wide = vector[spec.slices.wide]
    pairs = np.lib.stride_tricks.sliding_window_view(wide, 2)
    shape = (spec.rows, spec.embed_dim)
    embedding = vector[spec.slices.embedding].reshape(shape)
    first = init_vector(spec, 0)[spec.slices.embedding].reshape(shape)
    moved = embedding[(embedding != first).any(axis=1)]
    return {piece.tobytes() for part in (pairs[(pairs != 0).all(axis=1)], moved) for piece in part}


def _counts(members: list[Member]) -> set[int]:
    """Return each member's numbers of records, and of positives among its verdicts or labels."""
    found: set[int] = set()
    for member in members:
        for kind, column in (("listings", ""), ("complaints", ""), ("verdicts", "verdict"),
                             ("shops", "label")):  # fmt: skip
            frame = _frame(member, kind)
            found.add(frame.height)
            if column:
                found.update(frame[column].value_counts()["count"])
    return {count for count in found if count >= SMALLEST_COUNT}


def _frame(member: Member, kind: str) -> pl.DataFrame:
    store = Store.open(member.folder, create=False)
    try:
        return store.records.frame(kind)  # type: ignore[arg-type]
    finally:
        store.close()


def _database(path: Path) -> tuple[bytes, int]:
    """Return every value of every table as text, and the size of the largest one in bytes."""
    lines: list[bytes] = []
    largest = 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in names.fetchall():
            for row in database.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - from the schema
                values = [v if isinstance(v, bytes) else str(v).encode() for v in row]
                largest = max(largest, *map(len, values))
                lines.append(b"\n".join(values))
    return b"\n".join(lines), largest


def _smallest_update(spec: ModelSpec) -> int:
    """Return the bytes of a member's update if it were stored at one byte a parameter."""
    return spec.n_params


def _explained(path: Path) -> bool:
    """Tell whether a large file is one of the alliance's models, or the database with its log."""
    patterns = ("runs/*/model-*.f32", "releases/*/*", "touchstone.db", "touchstone.db-wal")
    return any(path.match(pattern) for pattern in patterns)


def _holdings(folder: Path, files: dict[Path, bytes]) -> tuple[Holding, ...]:
    number, size = Counter[str](), Counter[str]()
    for path, data in files.items():
        relative = path.relative_to(folder)
        purpose = next(text for pattern, text in _PURPOSES if _under(relative, pattern))
        number[purpose] += 1
        size[purpose] += len(data)
    return tuple(Holding(text, number[text], size[text]) for _, text in _PURPOSES if number[text])


def _under(path: Path, pattern: str) -> bool:
    return any(part.match(pattern) for part in (path, *path.parents)) or pattern == "*"
