from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.parity.sketch import DEVIATION_DB, SKETCH, _drawn, look_at, pack, unpack


def noisy(size, share, seed):
    """A value, and the same with so much noise on a share of its numbers."""
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(size)
    noise = 1e-3 * rng.standard_normal(size) * (rng.random(size) < share)
    return value, value + noise, float(np.sum(np.square(noise)))


@given(st.integers(1, SKETCH), st.integers(0, 2**31))
def test_few_numbers_are_compared_exactly(size, seed):
    value, other, noise = noisy(size, 1.0, seed)
    assert look_at(other).noise(look_at(value)) == pytest.approx(noise)


@given(
    st.integers(SKETCH + 1, 200_000),
    st.sampled_from([1.0, 0.3, 0.01, 0.0002]),
    st.integers(0, 2**31),
)
def test_sketch_tells_the_noise_to_a_few_deviations(size, share, seed):
    value, other, noise = noisy(size, share, seed)
    told = look_at(other).noise(look_at(value))
    if noise == 0:
        assert told == 0
    else:
        assert abs(10 * np.log10(told / noise)) < 5 * DEVIATION_DB


@given(
    st.integers(SKETCH + 1, 200_000), st.floats(-3, 3).filter(lambda shift: abs(shift) > 0.01)
)
def test_shift_of_every_number_is_told_as_noise_of_chance_is(size, shift):
    value = np.zeros(size)
    told = look_at(value + shift).noise(look_at(value))
    assert abs(10 * np.log10(told / (size * shift**2))) < 5 * DEVIATION_DB


@given(st.integers(1, 300_000), st.data())
def test_difference_in_one_number_is_told_exactly(size, data):
    place = data.draw(st.integers(0, size - 1))
    value = np.zeros(size, np.float32)
    other = value.copy()
    other[place] = 3.0
    assert look_at(other).noise(look_at(value)) == 9.0


def test_deviation_is_what_is_said():
    value = np.zeros(20_000)
    rng = np.random.default_rng(0)
    told = [
        look_at(noise).noise(look_at(value)) / np.sum(np.square(noise))
        for noise in rng.standard_normal((300, value.size))
    ]
    assert np.std(told) == pytest.approx(np.sqrt(2 / SKETCH), rel=0.15)
    assert np.mean(told) == pytest.approx(1, abs=0.03)


def test_sums_and_signs_are_the_same_everywhere():
    published = (
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
        0xF88BB8A8724C81EC,
    )
    places, signs = _drawn(0, 4)  # splitmix64 from the seed 0
    assert places.tolist() == [number % SKETCH for number in published]
    assert signs.tolist() == [-1 if number >> 32 & 1 else 1 for number in published]
    later, _ = _drawn(3, 1)
    assert later.tolist() == places[3:].tolist()


def test_what_is_not_finite_is_infinitely_far():
    value = np.ones(500)
    for bad in (np.nan, np.inf):
        other = value.copy()
        other[7] = bad
        assert look_at(other).noise(look_at(value)) == float("inf")
    assert look_at(value[:-1]).noise(look_at(value)) == float("inf")


def test_sketches_come_back_from_a_file_and_damaged_ones_do_not():
    seen = [look_at(np.arange(n, dtype=np.float32)) for n in (0, 3, 5000)]
    energies = np.array([one.energy for one in seen])
    packed, sizes = pack(iter(seen)), [one.size for one in seen]
    assert packed.size == 3 + SKETCH
    for one, other in zip(seen, unpack(sizes, energies, packed), strict=True):
        assert one.noise(other) <= 1e-12 * one.energy
    for changes in (
        (sizes[:2], energies, packed),
        ([0, 3, -5], energies, packed),
        (sizes, energies[:2], packed),
        (sizes, energies, packed[:-1]),
        (sizes, energies, packed.astype(np.float64)),
    ):
        with pytest.raises(ValueError, match="are not those of its values"):
            unpack(*changes)
