"""Members that break the secure sum's rules, in runs on an in-process grid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from participant.node.runs import MemberRun
from shared.secagg import keys, member_setup
from shared.secagg.shamir import random_element


def mask_garbage(
    monkeypatch: pytest.MonkeyPatch, rounds: Collection[int], members: Collection[int] = (1,)
) -> None:
    """Let ``members`` mask a vector in ``rounds`` that spoils the sum, and names nobody."""
    honest = MemberRun._vector

    def vector(run: MemberRun, opened: Any, model: Any, policy: Any) -> Any:
        found = honest(run, opened, model, policy)
        if opened.round in rounds and run._own.index in members:
            weight = -43 if run.verified.manifest.evaluates_in(opened.round) else -2
            found[weight] = 1 << 39
        return found

    monkeypatch.setattr(MemberRun, "_vector", vector)


def deal_other_secrets(monkeypatch: pytest.MonkeyPatch, cheat: int) -> None:
    """Let ``cheat`` deal shares of secrets that it has not committed to."""
    honest = member_setup._Dealing.__init__

    def deal(dealing: Any, me: Any, *arguments: Any) -> None:
        honest(dealing, me, *arguments)
        if me.index == cheat:
            slots = me.state.terms.slots
            others = (keys.commit_self(random_element()) for _ in range(slots))
            dealing._self_hashes[:] = b"".join(others)

    monkeypatch.setattr(member_setup._Dealing, "__init__", deal)


def deal_broken_boxes(
    monkeypatch: pytest.MonkeyPatch, cheat: int, victims: Collection[int]
) -> None:
    """Let ``cheat`` send boxes to ``victims`` that do not open, signed as they are."""
    honest = member_setup._Dealing._part

    def part(dealing: Any, v: int) -> Any:
        found = honest(dealing, v)
        broken = dealing._me.index == cheat and v in victims
        return replace(found, box=found.box[:-1] + bytes([found.box[-1] ^ 1])) if broken else found

    monkeypatch.setattr(member_setup._Dealing, "_part", part)
