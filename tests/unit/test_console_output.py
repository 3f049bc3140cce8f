"""What a command prints arrives as it was written."""

from __future__ import annotations

import pytest

from shared import console

FINGERPRINT = "87:AB:E7:ab:7B"


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_fingerprint_is_printed_to_the_letter(stream, capsys) -> None:
    if stream == "out":
        console.emit({}, as_json=False, text=FINGERPRINT)
    else:
        console.say(FINGERPRINT)
    assert getattr(capsys.readouterr(), stream) == FINGERPRINT + "\n"
