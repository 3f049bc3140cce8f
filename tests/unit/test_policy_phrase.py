"""The phrase for the telephone: the standard words, the same for both, another for other keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from participant.node import phrase as module
from participant.node.phrase import WORDS, check_phrase, phrase
from participant.node.words import EVEN, ODD
from shared.errors import BadInput, VerificationError

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "phrase" / "phrase.json").read_text("utf-8")
)


def words_of(data: bytes) -> list[str]:
    return [(ODD if at % 2 else EVEN)[byte] for at, byte in enumerate(data)]


def test_the_words_are_the_pgp_word_list():
    assert len(EVEN) == len(ODD) == 256
    assert len({word.lower() for word in EVEN + ODD}) == 512
    for case in VECTORS["word_list"]:
        assert " ".join(words_of(bytes.fromhex(case["hex"]))) == case["words"]


def test_recorded_phrases_are_still_the_same():
    for case in VECTORS["phrases"]:
        keys = [bytes.fromhex(case[name]) for name in ("alliance_id", "one_key", "other_key")]
        assert " ".join(phrase(*keys)) == case["phrase"]
        assert " ".join(phrase(keys[0], keys[2], keys[1])) == case["phrase"]


def test_the_bits_are_those_of_another_scrypt():
    case = VECTORS["phrases"][1]
    alliance_id, one, other = (
        bytes.fromhex(case[name]) for name in ("alliance_id", "one_key", "other_key")
    )
    domain = b"touchstone/peer-phrase/v1"
    secret = len(domain).to_bytes(4, "big") + domain + alliance_id + one + other
    oracle = Scrypt(salt=domain, length=16, n=1 << 16, r=8, p=1)
    assert " ".join(words_of(oracle.derive(secret))) == case["phrase"]


def test_other_keys_or_another_alliance_give_another_phrase():
    first = phrase(b"a" * 16, b"1" * 32, b"2" * 32)
    assert phrase(b"b" * 16, b"1" * 32, b"2" * 32) != first
    assert phrase(b"a" * 16, b"1" * 32, b"3" * 32) != first
    with pytest.raises(BadInput):
        phrase(b"a" * 16, b"1" * 32, b"1" * 32)


def test_a_collision_costs_more_than_anybody_can_pay():
    # Both keys may be the attacker's choice: the square root of all phrases, each try a scrypt.
    assert 256 ** (WORDS // 2) >= 2**64
    assert 128 * module.SCRYPT_N * module.SCRYPT_R >= 64 * 2**20


EXPECTED = tuple(words_of(bytes(range(WORDS))))


def test_a_phrase_is_heard_in_any_case_and_spacing():
    check_phrase(" ".join(EXPECTED), EXPECTED)
    check_phrase(",  ".join(EXPECTED).upper(), EXPECTED)
    check_phrase("-".join(EXPECTED), EXPECTED)


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        (EXPECTED[:-2], "16 words"),
        (EXPECTED[:3] + EXPECTED[4:], "word 4: out of place"),
        (EXPECTED[:4] + EXPECTED[3:], "word 5: out of place"),
        ((EXPECTED[1], EXPECTED[0], *EXPECTED[2:]), "word 1: out of place"),
        (("zebra", *EXPECTED[1:]), "'zebra' is not in the list"),
        ((), "16 words"),
    ],
    ids=["short", "left out", "doubled", "swapped", "unknown", "nothing"],
)
def test_a_misheard_phrase_says_where(heard, told):
    with pytest.raises(BadInput, match=told):
        check_phrase(" ".join(heard), EXPECTED)


@pytest.mark.parametrize("at", range(WORDS))
def test_one_wrong_word_anywhere_is_another_phrase(at):
    wrong = list(EXPECTED)
    wrong[at] = (ODD if at % 2 else EVEN)[200]
    with pytest.raises(VerificationError) as error:
        check_phrase(" ".join(wrong), EXPECTED)
    assert EXPECTED[at] not in error.value.message + error.value.hint
