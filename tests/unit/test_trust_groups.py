"""Groups in what the coordinator signs: manifest, sessions, round records, transcript, audit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import MalformedMessage, NotFound
from shared.secagg import default_threshold
from shared.secagg.groups import MEDIAN
from shared.trust.audit import OutsideManifest, check_rounds
from shared.trust.grouping import Drawing
from shared.trust.manifest import RunManifest, SecureSumTerms, VerifiedManifest
from shared.trust.round_record import NO_SUM, Outcome, RoundRecord
from shared.trust.session import session_terms
from shared.trust.transcript import (
    Transcript,
    TranscriptError,
    UnverifiedTranscript,
    Witness,
    WitnessContradicted,
)
from tests.support.manifests import a_manifest, entries
from tests.support.release import KEY

MEMBERS = 20
COUNT = 5
MODELS = [bytes([number]) * 32 for number in range(9)]


def a_drawing(members: int = MEMBERS, count: int = COUNT) -> Drawing:
    return Drawing(1, count, tuple(bytes([i]) * 32 for i in range(1, members + 1)))


def grouped(**changes: object) -> RunManifest:
    terms = SecureSumTerms(default_threshold(4, 1), 4, 1)
    fields = {"members": entries(MEMBERS), "drawing": a_drawing(), "secure_sum": terms, **changes}
    return a_manifest(**{"initial_model": MODELS[0], **fields})


MANIFEST = grouped()
VERIFIED = VerifiedManifest(MANIFEST, MANIFEST.hash())


def part(number: int, group: int, before: bytes, after: bytes, **changes: object) -> RoundRecord:
    """Return the record of one group's sum of a round."""
    peers = MANIFEST.peers_of(group)
    fields = {
        "round": number,
        "attempt": 1,
        "session_id": bytes([group]) * 16,
        "ordinal": 1,
        "slot": number,
        "t2": bytes([group, number]) * 16,
        "participants": peers,
        "survivors": peers,
        "vectors": tuple((index, bytes([index, number] * 16)) for index in peers),
        "certificate": (),
        "outcome": Outcome.SUMMED,
        "sum_sha256": b"s" * 32,
        "model_sha256": before,
        "next_model_sha256": after,
        "setup_sha256": b"S" * 32,
        "evidence_sha256": b"E" * 32,
        "group": group,
    }
    return RoundRecord(**{**fields, **changes})


def transcript(*records: RoundRecord) -> Transcript:
    chain = Transcript.start(MANIFEST.run_id, VERIFIED.hash)
    for record in records:
        chain = chain.append(record)
    return chain


def two_rounds() -> Transcript:
    first = [part(1, group, MODELS[0], MODELS[1]) for group in (1, 2, 3, 4, 5)]
    second = [part(2, group, MODELS[1], MODELS[2]) for group in (1, 3, 4)]
    return transcript(*first, *second)


def test_a_grouped_manifest_has_one_encoding_and_lists_everybody_once():
    again = RunManifest.decode(MANIFEST.encode())
    assert again == MANIFEST
    assert sorted(i for group in again.groups for i in group) == list(range(1, MEMBERS + 1))
    assert all(index in again.peers_of(again.group_of(index)) for index in range(1, MEMBERS + 1))
    assert a_manifest().group_of(3) == 0
    assert a_manifest().peers_of(0) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"drawing": a_drawing(MEMBERS - 1)},
        {"drawing": replace(a_drawing(), number=0)},
        {"robust": "best"},
        {"robust": MEDIAN, "drawing": a_drawing(count=4)},
        {"robust": MEDIAN, "drawing": Drawing()},
    ],
)
def test_a_manifest_whose_groups_make_no_sense_is_refused(changes):
    with pytest.raises(MalformedMessage):
        grouped(**changes)
    assert grouped(robust=MEDIAN).robust == MEDIAN


def test_a_session_is_of_one_group_and_of_a_group_that_exists():
    terms = [session_terms(VERIFIED, b"i" * 16, 1, group) for group in range(1, COUNT + 1)]
    assert [item.indices for item in terms] == list(MANIFEST.groups)
    assert len({item.digest() for item in terms}) == COUNT
    for group in (0, COUNT + 1):
        with pytest.raises(NotFound):
            session_terms(VERIFIED, b"i" * 16, 1, group)


def test_a_round_of_some_groups_is_one_round_and_audited():
    chain = two_rounds()
    assert (chain.rounds_summed(), chain.rounds(), len(chain.records)) == (2, 2, 8)
    assert check_rounds(chain, VERIFIED) == 0
    assert RoundRecord.decode(chain.records[6].encode()) == chain.records[6]


def test_a_burnt_group_beside_enough_others_is_no_burnt_round():
    burnt = part(1, 2, MODELS[0], MODELS[1], outcome=Outcome.BURNT, sum_sha256=NO_SUM)
    parts = {g: part(1, g, MODELS[0], MODELS[1]) for g in (1, 3, 4)}
    chain = transcript(parts[1], burnt, parts[3], parts[4])
    assert check_rounds(chain, VERIFIED) == 0
    assert (chain.rounds_summed(), chain.rounds()) == (1, 1)


def test_sums_that_went_unused_leave_the_model_alone():
    parts = [part(1, g, MODELS[0], MODELS[0], outcome=Outcome.UNUSED) for g in (2, 5)]
    chain = transcript(*parts, *(part(2, g, MODELS[0], MODELS[1]) for g in (1, 2, 3)))
    assert check_rounds(chain, VERIFIED) == 0
    assert (chain.rounds_summed(), chain.rounds()) == (1, 2)
    for outcome, group, after in ((Outcome.UNUSED, 2, MODELS[1]), (Outcome.UNUSED, 0, MODELS[0])):
        with pytest.raises(MalformedMessage):
            replace(parts[0], outcome=outcome, group=group, next_model_sha256=after).check()


def test_an_audit_refuses_a_round_of_too_few_groups_or_of_foreign_members():
    few = transcript(*(part(1, g, MODELS[0], MODELS[1]) for g in (1, 2)))
    stranger = replace(part(1, 1, MODELS[0], MODELS[1]), group=2)
    nowhere = replace(part(1, 1, MODELS[0], MODELS[1]), group=6)
    for chain in (few, transcript(stranger), transcript(nowhere)):
        with pytest.raises(OutsideManifest):
            check_rounds(chain, VERIFIED)


def test_groups_of_a_round_cannot_contradict_each_other_or_come_twice():
    first = part(1, 2, MODELS[0], MODELS[1])
    for wrong in (
        part(1, 3, MODELS[0], MODELS[2]),
        part(1, 3, MODELS[3], MODELS[1]),
        part(1, 2, MODELS[0], MODELS[1]),
        part(1, 1, MODELS[0], MODELS[1]),
    ):
        with pytest.raises(TranscriptError):
            transcript(first, wrong)


def test_a_member_holds_its_own_groups_record_against_what_it_was_told():
    chain = two_rounds()
    record = chain.records[2]
    index, digest = record.vectors[0]
    told = Witness(index, 1, record.slot, record.t2, record.bitmap(), digest)
    chain.check_witness(told)
    with pytest.raises(WitnessContradicted):
        chain.check_witness(replace(told, t2=chain.records[0].t2))
    left_out = MANIFEST.peers_of(2)[0]
    with pytest.raises(WitnessContradicted, match="missing"):
        chain.check_witness(replace(told, index=left_out, round=2))


def test_a_transcript_of_groups_survives_signing():
    chain = two_rounds()
    public = KEY.public_key().public_bytes_raw()
    terms = {"run_id": MANIFEST.run_id, "manifest_hash": VERIFIED.hash, "head": chain.head}
    assert UnverifiedTranscript(chain.sign(KEY)).verify(public, **terms) == chain
