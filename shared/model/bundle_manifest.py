"""The manifest of a release bundle: what was trained, from what, and at what price.

The canonical encoding (``shared.encoding``) is what the coordinator signs. It starts with its
own domain string, so that a signature over it can stand for nothing else. The byte layout is
written down in ``docs/reference/bundle.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_BUNDLE_METRICS, MAX_NAME
from shared.model.bundle_errors import BundleVersionError

DOMAIN = "touchstone/bundle/manifest"
VERSION = 1
ID_BYTES = 16
HASH_BYTES = 32
_MAX_SPEC_BYTES = 1024
_MAX_KIND = 32
KINDS = ("listing", "shop")
_MAX_DECIMAL = 40

# One spelling per number, so that a manifest has one encoding: no sign on zero's exponent, no
# leading zeros, no "1e-3", no "nan". Values are shown, never computed with.
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?\Z", re.ASCII)
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_@.]*\Z", re.ASCII)


def decimal_text(value: float, places: int = 6) -> str:
    """Return a finite number as the decimal text that a manifest carries.

    Raises:
        ValueError: the value is not finite.
    """
    text = f"{value:.{places}f}"
    if not _DECIMAL.match(text):
        raise ValueError(f"{value} has no decimal text")
    return text


@dataclass(frozen=True)
class BundleManifest:
    """The signed statement about one release.

    Attributes:
        alliance_id: 16 bytes.
        release_id: 16 bytes, unique in the alliance.
        run_id: 16 bytes, the training run this release ends.
        run_manifest_hash: SHA-256 of the run manifest that the members consented to.
        kind: what the model scores, ``listing`` or ``shop``.
        model_spec: canonical encoding of the ``ModelSpec``.
        feature_space_hash: 32 bytes; the keyed hash and field list the features come from.
        weights_sha256: SHA-256 of the safetensors part, byte for byte.
        transcript_head: 32 bytes; the head of the run's transcript chain.
        rounds: rounds whose sum entered the model.
        sequence: counts the alliance's releases from 1; never repeats (anti-rollback).
        parent_release_id: 16 bytes, or empty for a model that started from nothing.
        metrics: alliance-level figures as ``(name, decimal text)``, sorted by name.
        epsilon: decimal text of the differential-privacy budget a member spent, or empty
            when the run was not differentially private.
        created_at: seconds since 1970-01-01 UTC.
    """

    alliance_id: bytes
    release_id: bytes
    run_id: bytes
    run_manifest_hash: bytes
    kind: str
    model_spec: bytes
    feature_space_hash: bytes
    weights_sha256: bytes
    transcript_head: bytes
    rounds: int
    sequence: int
    parent_release_id: bytes
    metrics: tuple[tuple[str, str], ...]
    epsilon: str
    created_at: int

    def encode(self) -> bytes:
        """Return the canonical encoding.

        Raises:
            ValueError: a field has the wrong length or is not canonical.
        """
        try:
            self._check()
        except MalformedMessage as error:
            raise ValueError(error.message) from error
        writer = Writer(DOMAIN).u32(VERSION)
        writer.fixed(self.alliance_id, ID_BYTES).fixed(self.release_id, ID_BYTES)
        writer.fixed(self.run_id, ID_BYTES).fixed(self.run_manifest_hash, HASH_BYTES)
        writer.text(self.kind)
        writer.blob(self.model_spec).fixed(self.feature_space_hash, HASH_BYTES)
        writer.fixed(self.weights_sha256, HASH_BYTES).fixed(self.transcript_head, HASH_BYTES)
        writer.u32(self.rounds).u64(self.sequence).blob(self.parent_release_id)
        writer.u32(len(self.metrics))
        for name, value in self.metrics:
            writer.text(name).text(value)
        return writer.text(self.epsilon).u64(self.created_at).done()

    @classmethod
    def decode(cls, data: bytes) -> BundleManifest:
        """Read a canonical encoding.

        Raises:
            MalformedMessage: not a manifest, not canonical, or with bytes after its end.
            BundleVersionError: the format is newer than this software.
        """
        reader = Reader(data, DOMAIN)
        version = reader.u32()
        if version != VERSION:
            raise BundleVersionError(
                f"the bundle has format {version}, this software reads format {VERSION}",
                hint="upgrade touchstone on this machine",
            )
        manifest = cls(
            alliance_id=reader.fixed(ID_BYTES),
            release_id=reader.fixed(ID_BYTES),
            run_id=reader.fixed(ID_BYTES),
            run_manifest_hash=reader.fixed(HASH_BYTES),
            kind=reader.text(_MAX_KIND),
            model_spec=reader.blob(_MAX_SPEC_BYTES),
            feature_space_hash=reader.fixed(HASH_BYTES),
            weights_sha256=reader.fixed(HASH_BYTES),
            transcript_head=reader.fixed(HASH_BYTES),
            rounds=reader.u32(),
            sequence=reader.u64(),
            parent_release_id=reader.blob(ID_BYTES),
            metrics=tuple(
                (reader.text(MAX_NAME), reader.text(_MAX_DECIMAL))
                for _ in range(reader.u32(MAX_BUNDLE_METRICS))
            ),
            epsilon=reader.text(_MAX_DECIMAL),
            created_at=reader.u64(),
        )
        reader.end()
        manifest._check()
        return manifest

    def _check(self) -> None:
        """Refuse what would give one meaning two encodings, or a meaningless statement."""
        if len(self.parent_release_id) not in (0, ID_BYTES):
            raise MalformedMessage("a parent release id has 16 bytes or none")
        if self.kind not in KINDS:
            raise MalformedMessage(f"a model for {self.kind!r} records is not known")
        if self.sequence < 1:
            raise MalformedMessage("release sequence numbers start at 1")
        names = [name for name, _ in self.metrics]
        if names != sorted(set(names)):
            raise MalformedMessage("the metrics are not sorted by name, each once")
        if not all(_METRIC_NAME.match(name) for name in names):
            raise MalformedMessage("a metric's name is not lower-case letters, digits, '_@.'")
        if not all(_DECIMAL.match(value) for _, value in self.metrics):
            raise MalformedMessage("a metric is not a decimal number")
        if self.epsilon and not _DECIMAL.match(self.epsilon):
            raise MalformedMessage("epsilon is not a decimal number")


def metric_pairs(metrics: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Return alliance-level figures in the manifest's canonical form.

    Raises:
        ValueError: a value is not finite.
    """
    return tuple((name, decimal_text(metrics[name])) for name in sorted(metrics))
