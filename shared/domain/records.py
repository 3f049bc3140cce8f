"""The records of the domain, one at a time, validated.

For records that arrive singly (an HTTP request, a form, a test). Whole files are validated by
column in the participant's ingest, against the same vocabulary and limits.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from shared.domain.vocabulary import (
    MAX_DESCRIPTION,
    MAX_HOST,
    MAX_ID,
    MAX_IMAGES,
    MAX_PRICE,
    MAX_SIGNALS,
    MAX_TITLE,
    MAX_URL,
    ComplaintClaim,
    ComplaintSource,
    VerdictSource,
    VerdictValue,
)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _finite(value: float | str | None) -> float | str | None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a signal must be a finite number")
    return value


Identifier = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_ID)
]
ShortText = Annotated[str, StringConstraints(max_length=MAX_TITLE)]
LongText = Annotated[str, StringConstraints(max_length=MAX_DESCRIPTION)]
Url = Annotated[str, StringConstraints(max_length=MAX_URL)]
Host = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_HOST, to_lower=True)
]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
Amount = Annotated[float, Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)]
SignalName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
SignalValue = Annotated[
    float | Annotated[str, StringConstraints(max_length=MAX_TITLE)] | None,
    AfterValidator(_finite),
]
Signals = Annotated[dict[SignalName, SignalValue], Field(max_length=MAX_SIGNALS)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listing(_Record):
    """One offer on a marketplace."""

    listing_id: Identifier
    marketplace: ShortText | None = None
    url: Url | None = None
    brand: ShortText | None = None
    title: ShortText | None = None
    description: LongText | None = None
    language: Language | None = None
    category: ShortText | None = None
    price: Amount | None = None
    currency: Currency | None = None
    list_price: Amount | None = None
    quantity: Annotated[int, Field(ge=0)] | None = None
    seller_id: Identifier | None = None
    seller_name: ShortText | None = None
    seller_created_at: Moment | None = None
    seller_rating: Annotated[float, Field(allow_inf_nan=False)] | None = None
    ship_from: ShortText | None = None
    image_hashes: Annotated[tuple[Identifier, ...], Field(max_length=MAX_IMAGES)] = ()
    created_at: Moment | None = None
    updated_at: Moment | None = None
    signals: Signals = Field(default_factory=dict)

    @model_validator(mode="after")
    def _times_in_order(self) -> Listing:
        if self.created_at and self.updated_at and self.updated_at < self.created_at:
            raise ValueError("updated_at is before created_at")
        return self


class Complaint(_Record):
    """What somebody said about a listing's goods."""

    complaint_id: Identifier
    listing_id: Identifier
    source: ComplaintSource
    claim: ComplaintClaim
    text: LongText | None = None
    language: Language | None = None
    created_at: Moment


class Verdict(_Record):
    """What a person or process decided about a listing."""

    listing_id: Identifier
    verdict: VerdictValue
    source: VerdictSource
    decided_at: Moment
    reversed_at: Moment | None = None

    @model_validator(mode="after")
    def _times_in_order(self) -> Verdict:
        if self.reversed_at and self.reversed_at < self.decided_at:
            raise ValueError("reversed_at is before decided_at")
        return self


class Shop(_Record):
    """A whole online shop, known by its host name."""

    shop_id: Identifier
    host: Host
    url: Url | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    label: Annotated[int, Field(ge=0, le=1)] | None = None
    signals: Signals = Field(default_factory=dict)


def record_row(record: Listing | Complaint | Verdict | Shop) -> dict[str, Any]:
    """Return a record as a row of its canonical table (signals become JSON text)."""
    row = record.model_dump()
    if "signals" in row:
        row["signals"] = json.dumps(row["signals"], ensure_ascii=False, sort_keys=True)
    if "image_hashes" in row:
        row["image_hashes"] = list(row["image_hashes"])
    return row
