"""Every transcript against what this member was told in the run that it is of."""

from __future__ import annotations

from pathlib import Path

from participant.node.witnesses import WitnessFile
from shared.trust.transcript import Transcript

SECSUM = "secsum"


def check_told(state_dir: Path, transcript: Transcript) -> None:
    """Hold a verified transcript against this member's witnesses of its run.

    Which run that is, the verified transcript says and nothing that was not signed: whoever could
    name another run could switch the check off.

    Raises:
        WitnessContradicted: a round is missing, or was published otherwise than it was told.
    """
    transcript.check_witnesses(WitnessFile(state_dir / SECSUM, transcript.run_id).read())
