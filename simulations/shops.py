"""Real online shops, dealt to the members of a demonstration.

The data are the Fraudulent and Legitimate Online Shops of Janaviciute and Liutkevicius (Kaunas
University of Technology, 2023, doi 10.17632/m7xtkx7g5m.1, CC BY 4.0): 1,140 shops found and
labelled by hand. They are never copied into the project; a study is told where they lie.

Members differ by their share of each label, Dirichlet(0.5) over the members, as in Hsu et al.,
"Measuring the Effects of Non-Identical Data Distribution" (2019). They are never cut by top-level
domain, which tells the label in this sample. The mapping `MAPPING` leaves out the columns that
leak the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from shared.errors import BadInput, NotFound
from shared.files import write_atomic

MAPPING = "online_shops"
"""Name of the column mapping that comes with the participant."""

FILE = "shops.csv"
URL, LABEL = "Online shop URL", "Label"
LABELS = ("fraudulent", "legitimate")
NAMES = ("amberly", "borealis", "castellan", "dovetail", "elmhurst", "foxglove", "gantry", "harrow")

MIN_ROWS = 20
"""A deal that leaves a member fewer shops is dealt again: nothing could be measured on it."""

_DEALS = 1000
_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ShopMember:
    """One member's shops in the file's own columns, texts as they stand; no host is in both."""

    name: str
    train: pl.DataFrame
    test: pl.DataFrame

    @property
    def judgeable(self) -> bool:
        """Whether the test part holds both classes, without which there is no ROC-AUC."""
        return self.test[LABEL].n_unique() == len(LABELS)


def load_shops(path: Path) -> pl.DataFrame:
    """Read the file, or the folder that holds it, with every value as the text it is.

    Raises:
        NotFound: there is no such file.
        BadInput: the file is not a CSV of these shops.
    """
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise NotFound(f"no shops at {path}", hint=f"point to the folder that holds {FILE}")
    try:
        shops = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{path.name} is not a CSV file", detail=str(error)) from error
    if not {URL, LABEL} <= set(shops.columns):
        raise BadInput(f"{path.name} lacks the columns {URL!r} and {LABEL!r}")
    if not shops[LABEL].is_in(LABELS).all():
        raise BadInput(f"{path.name} has labels other than {' and '.join(LABELS)}")
    return shops.unique(URL, keep="first", maintain_order=True)


def deal_shops(
    shops: pl.DataFrame,
    *,
    members: int = 8,
    alpha: float = 0.5,
    test_share: float = 0.35,
    seed: int = 0,
) -> list[ShopMember]:
    """Deal ``shops`` to members by label, and cut each hand into training and test shops.

    Args:
        shops: as `load_shops` returns them.
        members: how many, at most eight.
        alpha: of the Dirichlet distribution; smaller is more uneven.
        test_share: share of each member's shops that only judge.
        seed: of the deal; nothing but the labels and the order of rows enters it.

    Raises:
        BadInput: there are too few shops for so many members.
    """
    if not 2 <= members <= len(NAMES):
        raise BadInput(f"the shops can be dealt to 2 to {len(NAMES)} members")
    draws = np.random.default_rng(seed)
    fraudulent = (shops[LABEL] == LABELS[0]).to_numpy()
    for _ in range(_DEALS):
        hands = _deal(fraudulent, members, alpha, draws)
        if min(hand.size for hand in hands) >= MIN_ROWS:
            return [
                _cut(name, shops, draws.permutation(hand), test_share)
                for name, hand in zip(NAMES, hands, strict=False)
            ]
    raise BadInput("too few shops for so many members", hint="ask for fewer members")


def _deal(
    fraudulent: npt.NDArray[np.bool_], members: int, alpha: float, draws: np.random.Generator
) -> list[_Rows]:
    """Return each member's rows: the shares of either label are one Dirichlet draw each."""
    owner = np.empty(fraudulent.size, dtype=np.int64)
    for rows in (np.flatnonzero(fraudulent), np.flatnonzero(~fraudulent)):
        shares = draws.dirichlet(np.full(members, alpha))
        owner[rows] = draws.choice(members, size=rows.size, p=shares)
    return [np.flatnonzero(owner == member) for member in range(members)]


def _cut(name: str, shops: pl.DataFrame, hand: _Rows, test_share: float) -> ShopMember:
    tests = round(hand.size * test_share)
    return ShopMember(name, shops[np.sort(hand[tests:])], shops[np.sort(hand[:tests])])


def write_shops(dealt: list[ShopMember], folder: Path) -> dict[str, dict[str, Path]]:
    """Write ``<folder>/<member>/{train,test}.csv`` with the original columns.

    Returns:
        member -> ``train`` or ``test`` -> path.

    Raises:
        StorageError: a file cannot be written.
    """
    paths: dict[str, dict[str, Path]] = {}
    for member in dealt:
        (folder / member.name).mkdir(parents=True, exist_ok=True)
        for part, rows in (("train", member.train), ("test", member.test)):
            path = folder / member.name / f"{part}.csv"
            write_atomic(path, rows.write_csv().encode())
            paths.setdefault(member.name, {})[part] = path
    return paths
