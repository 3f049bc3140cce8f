"""From a verified run manifest to what one secure-sum session and one round must look like.

Both sides compute these for themselves; a coordinator that asks for anything else is refused
because the bytes differ, not because a rule was remembered.
"""

from __future__ import annotations

from shared.encoding import Writer
from shared.model.layout import ModelSpec
from shared.secagg import Layout, NoiseTerms, Quantiser, SessionTerms
from shared.trust.manifest import RunManifest, VerifiedManifest

CONFIG_DOMAIN = "touchstone/round-config/v1"


def session_terms(
    verified: VerifiedManifest, session_id: bytes, ordinal: int, group: int = 0
) -> SessionTerms:
    """Return the terms of session number ``ordinal`` of the run, or of one of its groups.

    Raises:
        TermsRefused: the manifest's parameters cannot keep the secure sum's promise.
        NotFound: the manifest has no such group.
    """
    manifest = verified.manifest
    sums, listed = manifest.secure_sum, set(manifest.peers_of(group))
    terms = SessionTerms(
        manifest_hash=verified.hash,
        run_id=manifest.run_id,
        session_id=session_id,
        ordinal=ordinal,
        listed=tuple((m.index, m.public_key) for m in manifest.members if m.index in listed),
        coordinator_key=manifest.coordinator_key,
        threshold=sums.threshold,
        n_min=sums.n_min,
        max_colluders=sums.max_colluders,
        quantiser=Quantiser(
            value_bits=sums.value_bits,
            lane_bits=sums.lane_bits,
            clip_coord=sums.clip_coord_milli / 1000,
            clip_l2=sums.clip_l2_milli / 1000,
            bucketed=manifest.training.weighting == "bucketed",
        ),
        slots=sums.slots,
    )
    terms.validate()
    return terms


def round_config(manifest: RunManifest, number: int) -> bytes:
    """Return the canonical training config of round ``number``; T2 binds it."""
    training = manifest.training
    writer = Writer(CONFIG_DOMAIN).u32(number).u8(int(manifest.evaluates_in(number)))
    writer.u32(training.local_epochs).u32(training.learning_rate_milli)
    return manifest.privacy.write(writer.u32(training.batch_size)).done()


def round_layout(manifest: RunManifest, number: int) -> Layout:
    """Return the layout of round ``number``'s vectors."""
    spec = ModelSpec.decode(manifest.model_spec)
    return Layout(spec.n_params, manifest.evaluates_in(number))


def noise_terms(manifest: RunManifest, own_min_rows: int = 0) -> NoiseTerms:
    """Return the evaluation's privacy as the manifest states it.

    Args:
        manifest: the run's.
        own_min_rows: smallest hold-out that the member itself lets be told.
    """
    # Whether a hold-out is large enough is itself a look at the records: in a private run nothing
    # but the noise may depend on them, so every hold-out is told.
    least = 0 if manifest.private else max(manifest.evaluation.min_rows, own_min_rows)
    return NoiseTerms(manifest.evaluation.epsilon_milli / 1000, least)
