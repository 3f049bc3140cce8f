"""Every transcript against what this member was told in the run that it is of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.told_rounds import ToldRounds
from participant.node.witnesses import WitnessFile
from shared.errors import TouchstoneError
from shared.trust.transcript import Transcript, Witness, WitnessContradicted

SECSUM = "secsum"


def check_told(
    state_dir: Path, transcript: Transcript, witnesses: Iterable[Witness] | None = None
) -> None:
    """Hold a verified transcript against this member's witnesses of its run.

    Which run that is, the verified transcript says and nothing that was not signed: whoever could
    name another run could switch the check off.

    Args:
        state_dir: the member's state folder.
        transcript: verified.
        witnesses: those that are due; all of the run's if left out.

    Raises:
        WitnessContradicted: a round is missing, or was published otherwise than it was told; the
            hint says where the proof lies that can be shown to others.
    """
    if witnesses is None:
        witnesses = WitnessFile(state_dir / SECSUM, transcript.run_id).read()
    for witness in witnesses:
        try:
            transcript.check_witness(witness)
        except WitnessContradicted as error:
            proof = _proof(state_dir, transcript, witness)
            if proof is None:
                raise
            hint = f"{error.hint}; what the coordinator signed is in {proof}"
            raise WitnessContradicted(error.message, hint=hint) from error


def _proof(state_dir: Path, transcript: Transcript, witness: Witness) -> Path | None:
    """Return the file that holds another story of the round under the coordinator's signature.

    There is none if the round was answered under an earlier version, or if all that differs is
    what the member itself has signed: the digest of its vector.
    """
    kept = ToldRounds(state_dir / SECSUM, transcript.run_id)
    key = bytes.fromhex(NodeConfig.load(state_dir).alliance.coordinator_public_key)
    try:
        signed = kept.read(witness.round)
        proven = signed is not None and not signed.verify(key).holds_for(transcript)
    except TouchstoneError:
        return None  # damaged: the contradiction stands, it only cannot be shown
    return kept.path(witness.round) if proven else None
