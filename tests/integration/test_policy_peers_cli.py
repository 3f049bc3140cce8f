"""Members find out over the telephone whether somebody sits between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.enrolment.service import roster
from participant.node import registry_client
from participant.node.keystore import identity_key
from participant.node.peers import Peers
from participant.store.audit import AuditLog
from shared.errors import Exit, StorageError
from shared.trust.roster import Roster
from tests.support.alliance import found_alliance
from tests.support.commands import data, run


@pytest.fixture
def pair(tmp_path):
    alliance = found_alliance(tmp_path, ["amber", "birch", "cedar"])
    database = alliance.database()
    current = roster(database)
    database.close()
    return alliance, current


def accept(alliance, name, shown):
    folder = alliance.dir_of(name)
    own = identity_key(folder).public_key().public_bytes_raw()
    Peers(folder).accept(shown, own_index=shown.by_name(name).index, own_key=own)
    return folder


def test_both_see_the_same_words_and_pin_each_other_by_them(pair):
    alliance, current = pair
    amber, birch = (accept(alliance, name, current) for name in ("amber", "birch"))
    read_out = data(birch, "peers", "phrase", "amber")["phrase"]
    assert data(amber, "peers", "phrase", "birch")["phrase"] == read_out
    assert run(amber, "peers", "phrase", "birch")[1].split() == read_out.split()
    assert data(amber, "peers", "pin", "birch", "--phrase", read_out) == {
        "member_id": "birch",
        "already_pinned": False,
        "dry_run": False,
    }
    assert data(amber, "peers", "pin", "birch", "--phrase", read_out)["already_pinned"]
    pinned = {
        item["member_id"] for item in data(amber, "peers", "list")["members"] if item["pinned"]
    }
    assert pinned == {"birch"}
    events = data(amber, "audit", "show")["events"]
    assert [e["body"] for e in events if e["kind"] == "peer.pinned"] == [
        {"member_id": "birch", "by": "phrase"}
    ]


def test_a_coordinator_between_two_members_is_found_out(pair):
    alliance, current = pair
    one, two, three = current.entries
    for_amber = Roster(
        current.alliance_id, current.epoch, (one, replace(two, public_key=b"x" * 32), three)
    )
    for_birch = Roster(
        current.alliance_id, current.epoch, (replace(one, public_key=b"y" * 32), two, three)
    )
    amber, birch = accept(alliance, "amber", for_amber), accept(alliance, "birch", for_birch)
    read_out = data(birch, "peers", "phrase", "amber")["phrase"]
    assert run(amber, "peers", "pin", "birch", "--phrase", read_out)[0] == Exit.VERIFICATION
    assert Peers(amber).pins() == {}


def test_what_cannot_be_a_pin_is_refused(pair):
    alliance, current = pair
    amber = accept(alliance, "amber", current)
    words = data(amber, "peers", "phrase", "birch")["phrase"]
    assert run(amber, "peers", "pin", "birch")[0] == Exit.USAGE
    assert run(amber, "peers", "pin", "birch", "ab" * 32, "--phrase", words)[0] == Exit.USAGE
    assert run(amber, "peers", "pin", "birch", "--phrase", "aardvark")[0] == Exit.USAGE
    assert run(amber, "peers", "pin", "cedar", "--phrase", words)[0] == Exit.VERIFICATION
    assert run(amber, "peers", "phrase", "amber")[0] == Exit.USAGE
    assert run(amber, "peers", "phrase", "nobody")[0] == Exit.CONFIG
    assert Peers(amber).pins() == {}


def test_nothing_changes_that_is_not_in_the_audit_log(pair, monkeypatch):
    alliance, current = pair
    amber = accept(alliance, "amber", current)
    words = data(amber, "peers", "phrase", "birch")["phrase"]
    pin = ("peers", "pin", "birch", "--phrase", words)
    later = replace(current, epoch=current.epoch + 1)
    monkeypatch.setattr(registry_client, "fetch_roster", lambda _folder: later)

    def full(*_arguments, **_options):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", full)
        assert run(amber, *pin)[0] == Exit.CONFIG
        assert run(amber, "peers", "accept")[0] == Exit.CONFIG
    assert (Peers(amber).pins(), Peers(amber).roster()) == ({}, current)
    assert run(amber, *pin)[0] == run(amber, "peers", "accept")[0] == Exit.OK
    assert Peers(amber).roster() == later
    monkeypatch.setattr(AuditLog, "append", full)
    assert run(amber, "peers", "unpin", "birch")[0] == Exit.CONFIG
    assert Peers(amber).pins().keys() == {"birch"}


def test_peers_of_a_folder_that_has_not_joined_are_an_error(tmp_path):
    assert run(tmp_path / "typo", "peers", "list")[0] == Exit.CONFIG
    assert not (tmp_path / "typo").exists()
