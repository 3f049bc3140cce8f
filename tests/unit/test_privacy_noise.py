"""The rounded Gaussian: right in distribution, exact where floating point cannot decide."""

from __future__ import annotations

import random
import secrets

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from shared.privacy import gaussian
from shared.privacy.gaussian import UNIT, rounded_gaussian
from shared.privacy.keystream import Keystream

KEY = bytes(range(32))


def test_noise_is_normal_with_the_stated_deviation() -> None:
    noise = rounded_gaussian(400_000, Keystream(KEY)) / UNIT
    assert abs(noise.mean()) < 0.006
    assert abs(noise.std() - 1) < 0.005
    assert abs(stats.kurtosis(noise)) < 0.03
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    inner = np.histogram(noise, stats.norm.ppf(np.linspace(0, 1, 65)))[0]
    assert stats.chisquare(inner).pvalue > 1e-3


def test_the_last_bits_are_uniform_too() -> None:
    noise = rounded_gaussian(64_000, Keystream(KEY))
    assert stats.chisquare(np.bincount(noise & 63, minlength=64)).pvalue > 1e-3


def test_exact_comparisons_decide_as_double_precision_does_where_both_can(monkeypatch) -> None:
    """With a margin of a thousandth some hundred comparisons take the exact way."""
    plain = gaussian._candidates(2_000, Keystream(KEY))
    monkeypatch.setattr(gaussian, "MARGIN", 1e-3)
    asked = []
    exact = gaussian._exp
    monkeypatch.setattr(gaussian, "_exp", lambda e: asked.append(e) or exact(e))

    class Split(Keystream):
        """Keeps the stream in step: further bits come from another one."""

        other = Keystream(bytes(32))

        def words(self, count: int):  # type: ignore[no-untyped-def]
            return self.other.words(1) if count == 1 else super().words(count)

    np.testing.assert_array_equal(gaussian._candidates(2_000, Split(KEY)), plain)
    assert len(asked) > 3


def test_the_same_key_gives_the_same_noise_and_a_fresh_one_other() -> None:
    first = rounded_gaussian(100, Keystream(KEY))
    np.testing.assert_array_equal(first, rounded_gaussian(100, Keystream(KEY)))
    assert (rounded_gaussian(100, Keystream()) != rounded_gaussian(100, Keystream())).any()
    assert rounded_gaussian(0, Keystream()).size == 0


def test_words_are_the_aes_256_counter_mode_of_the_standard() -> None:
    """NIST SP 800-38A: each block is the cipher of its number, here by another mode of it."""
    blocks = b"".join(number.to_bytes(16, "big") for number in range(5))
    cipher = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()  # noqa: S305 - the definition
    expected = np.frombuffer(cipher.update(blocks), dtype="<u8")
    stream = Keystream(KEY)
    np.testing.assert_array_equal(np.concatenate([stream.words(4), stream.words(6)]), expected)


def test_a_key_comes_from_the_system_and_no_seed_fixes_the_noise(monkeypatch) -> None:
    drawn = []
    system = secrets.token_bytes
    monkeypatch.setattr(secrets, "token_bytes", lambda n: drawn.append(n) or system(n))
    seen = []
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)  # noqa: TID251 - the generator that must not matter
        torch.manual_seed(1)
        seen.append(rounded_gaussian(50, Keystream()))
    assert (seen[0] != seen[1]).any()
    assert drawn == [32, 32]
