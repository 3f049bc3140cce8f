"""What follows a listing: complaints that arrive late, and verdicts that err."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from simulations.world.draft import Draft
from simulations.world.draws import Draws
from simulations.world.laws import FAKE_RETURNS, HARD_NEGATIVES, HONEST_RETURNS
from simulations.world.profiles import Profile
from simulations.world.texts import lexicon

REVIEWED = 0.93
"""Share of listings that anybody ever decides on."""

WRONG = {False: 0.006, True: 0.015}
"""Probability of a wrong accusation, of a plain offer and of a hard negative: 1 % overall."""

REVERSED = {False: 0.12, True: 0.008}
"""Probability that an accusation is reversed, when it was wrong and when it was right."""

COMPLAINT_WEEKS = 3.0
"""Mean delay of a complaint."""

_FAKE_CLAIMS = {"fake": 0.5, "defect": 0.2, "not_received": 0.1, "wrong_item": 0.1, "other": 0.1}
_HONEST_CLAIMS = {
    "fake": 0.08, "defect": 0.36, "not_received": 0.2, "wrong_item": 0.18, "other": 0.18,
}  # fmt: skip
_ANGRY_CLAIMS = {"fake": 0.5, "defect": 0.3, "other": 0.2}
_HONEST_VERDICT = {
    "grey": {"grey_market": 0.7, "authentic": 0.3},
    "inspired": {"other_ip": 0.5, "authentic": 0.5},
}


@dataclass
class Aftermath:
    """Draws what one member learns about its listings after they appear."""

    member: Profile
    draws: Draws
    complaints_so_far: int = 0

    def complaints(self, draft: Draft) -> list[dict[str, Any]]:
        """Return the complaints about one listing, whenever they arrive."""
        draws, angry = self.draws, draft.kind == "angry"
        share = draws.betavariate(*(FAKE_RETURNS if draft.counterfeit else HONEST_RETURNS))
        mix = _FAKE_CLAIMS if draft.counterfeit else _ANGRY_CLAIMS if angry else _HONEST_CLAIMS
        count = sum(
            draws.chance(min(1.0, share * (6 if angry else 1))) for _ in range(draft.orders)
        )
        rows = [self._complaint(draft, "buyer", draws.weighted(mix)) for _ in range(count)]
        if draft.counterfeit and draws.chance(0.04):
            source = draws.choice(("test_purchase", "customs"))
            rows.append(self._complaint(draft, source, "fake"))
        elif draws.chance(0.004):
            rows.append(self._complaint(draft, "test_purchase", "other"))
        return rows

    def _complaint(self, draft: Draft, source: str, claim: str) -> dict[str, Any]:
        self.complaints_so_far += 1
        days = 7 * self.draws.geometric(COMPLAINT_WEEKS) + self.draws.uniform(1, 8)
        return {
            "complaint_id": f"{self.member.name}-c{self.draws.token(10)}",
            "listing_id": draft.listing_id,
            "source": source,
            "claim": claim,
            "text": self.draws.choice(lexicon(draft.language).complaints[claim]),
            "language": draft.language,
            "created_at": _second(draft.created_at + timedelta(days=days)),
        }

    def verdict(self, draft: Draft) -> dict[str, Any] | None:
        """Return the member's decision, or None if nobody ever looks."""
        draws = self.draws
        if self.member.labels == "none" or not draws.chance(REVIEWED):
            return None
        value = self._judged(draft)
        if self.member.labels == "flipped":
            value = self._flipped(value)
        days = draws.geometric(self.member.delay_days) + draws.uniform(0.1, 1.0)
        decided = _second(draft.created_at + timedelta(days=days))
        accused = value == "counterfeit"
        reversed_at = None
        if accused and draws.chance(REVERSED[draft.counterfeit]):
            reversed_at = decided + timedelta(days=5 + draws.geometric(12.0))
        return {
            "listing_id": draft.listing_id,
            "verdict": value,
            "source": draws.weighted({"analyst": 0.8, "platform": 0.15, "test_purchase": 0.05}),
            "decided_at": decided,
            "reversed_at": reversed_at,
        }

    def _judged(self, draft: Draft) -> str:
        draws = self.draws
        if draft.counterfeit:
            if draws.chance(self.member.missed):
                return draws.weighted({"authentic": 0.75, "unsure": 0.25})
            return "counterfeit"
        if draws.chance(WRONG[draft.kind in HARD_NEGATIVES]):
            return "counterfeit"
        return draws.weighted(_HONEST_VERDICT.get(draft.kind, {"authentic": 0.97, "unsure": 0.03}))

    def _flipped(self, value: str) -> str:
        """Return what a poisoner writes: fakes pass, and as many genuine offers are accused."""
        if value == "counterfeit":
            return "authentic"
        return "counterfeit" if self.draws.chance(self.member.prevalence) else value


def _second(at: datetime) -> datetime:
    return at.replace(microsecond=0)
