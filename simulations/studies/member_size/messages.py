"""Members of the real SMS spam collection: short, obfuscated, promotional texts.

Almeida, Hidalgo and Yamakami, "Contributions to the study of SMS spam filtering" (DocEng 2011).
They are messages, not listings, and spam, not counterfeits: a stand-in, which has real members of
1,000 rows where the online shops have none. A message is the title of a listing with nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from participant.training.dataset import TrainingSet
from participant.training.matrix import to_csr
from shared.domain.schemas import SCHEMAS, empty_frame
from shared.errors import BadInput, NotFound
from shared.model.features.batch import FeatureBatch
from shared.model.features.build import build_features
from shared.model.features.history import History
from shared.model.layout import ModelSpec
from simulations.studies.member_size.dealing import Deal, deal
from simulations.studies.member_size.member import StudyMember

FILE = "sms_spam.csv"
SIZES = (50, 50, 200, 200, 1000, 1000)
TEST_ROWS = 600
SAME = 60
"""Messages that agree in so many first letters and digits are one message sent twice."""

NOW = datetime(2011, 9, 19, tzinfo=UTC)


def read_messages(data: Path) -> pl.DataFrame:
    """Return ``text`` and ``spam`` of each different message.

    Raises:
        NotFound: there is no such file.
        BadInput: it is another one.
    """
    path = data / FILE if data.is_dir() else data
    if not path.is_file():
        raise NotFound(f"no messages at {path}", hint=f"point to the folder that holds {FILE}")
    raw = pl.read_csv(path.read_bytes().decode("latin-1").encode(), infer_schema=False)
    if not {"v1", "v2"} <= set(raw.columns) or not raw["v1"].is_in(["ham", "spam"]).all():
        raise BadInput(f"{path.name} is not the SMS spam collection")
    key = pl.col("v2").str.to_lowercase().str.replace_all(r"[^a-z0-9]", "").str.head(SAME)
    different = raw.with_columns(key=key).unique("key", keep="first", maintain_order=True)
    return different.select(text="v2", spam=pl.col("v1") == "spam")


def message_members(
    seed: int, spec: ModelSpec, messages: pl.DataFrame, *, sizes: tuple[int, ...] = SIZES
) -> list[StudyMember]:
    """Deal the messages to one member for each of ``sizes``; a twentieth to a fifth is spam.

    Raises:
        BadInput: there are too few messages.
    """
    spam = messages["spam"].to_numpy()
    dealt = deal(spam, sizes, shares=(0.05, 0.2), test_rows=TEST_ROWS, seed=seed)
    return [_member(f"inbox-{number}", messages, one, spec) for number, one in enumerate(dealt, 1)]


def _member(name: str, messages: pl.DataFrame, dealt: Deal, spec: ModelSpec) -> StudyMember:
    labels = messages["spam"].to_numpy().astype(np.int8)
    training = TrainingSet.from_features(
        spec,
        _features(messages[dealt.hand], spec),
        labels[dealt.hand],
        groups=[f"message-{row}" for row in dealt.hand],
    )
    test = to_csr(_features(messages[dealt.test], spec), spec.rows)
    return StudyMember(name, dealt.hand.size, training, test, labels[dealt.test])


def _features(messages: pl.DataFrame, spec: ModelSpec) -> FeatureBatch:
    ids = [f"message-{row}" for row in range(messages.height)]
    given = {"listing_id": ids, "title": messages["text"].to_list()}
    schema = SCHEMAS["listings"]
    nothing = [None] * messages.height
    frame = pl.DataFrame({name: given.get(name, nothing) for name in schema}, schema=schema)
    return build_features(
        frame,
        "listings",
        hash_bits=spec.hash_bits,
        as_of=NOW,
        history=History(frame, empty_frame("complaints")),
    )
