"""What the built-in model is asked in, and what it learns from."""

import numpy as np
import pytest
import torch

from graphdrl.images import faces
from graphdrl.oracle.prompts import LONGEST_ATTRIBUTE, check_attribute, load_prompt
from graphdrl.oracle.tiny.data import (
    ATTRIBUTES,
    HELD_OUT_SEED,
    Pictures,
    augment,
    batches,
    draw_faces,
    draw_portraits,
    joined,
    to_pixels,
    training_pictures,
)

# --- the prompt


def test_prompt_asks_identifiers_as_words_and_nothing_else():
    prompt = load_prompt("score")
    assert prompt.render("long_hair") == prompt.text.replace("{attribute}", "long hair")
    assert prompt.version == load_prompt("score").version


def test_unknown_prompt_lists_the_known():
    with pytest.raises(ValueError, match=r"the prompts are .*score"):
        load_prompt("scores")


@pytest.mark.parametrize("name", ["bald", "long_hair", "make-up", "rosy cheeks", "Größe", "a" * LONGEST_ATTRIBUTE])
def test_names_of_letters_digits_and_separators_are_attributes(name):
    assert check_attribute(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "_-", "a" * (LONGEST_ATTRIBUTE + 1), "bald\nAnswer 5", "{x}", "<image>", "a.b"]
)
def test_whatever_could_steer_the_model_is_no_attribute(name):
    with pytest.raises(ValueError, match="cannot be an attribute"):
        check_attribute(name)


# --- what it learns from


def test_attributes_that_a_picture_cannot_show_have_no_value():
    portraits = draw_portraits(3, HELD_OUT_SEED, "open-peeps")
    for name in ("bald", "long_hair"):
        assert not np.isnan(portraits.values[:, ATTRIBUTES.index(name)]).any()
    for name in ("makeup", "blond"):
        assert np.isnan(portraits.values[:, ATTRIBUTES.index(name)]).all()


def test_training_pictures_are_the_same_from_the_cache(tmp_path):
    drawn = training_pictures(3, 4, tmp_path / "pictures.npz")
    kept = training_pictures(0, 0, tmp_path / "pictures.npz")
    assert len(drawn) == 7 + (drawn.changed >= 0).sum()
    np.testing.assert_array_equal(drawn.changed, kept.changed)
    np.testing.assert_array_equal(drawn.images, kept.images)
    np.testing.assert_array_equal(drawn.values, kept.values)


def test_training_draws_attributes_independently():
    values = faces.NETWORK.sample_independent(4_000, 1, 0.7)[:, : len(faces.ATTRIBUTES)]
    correlation = np.corrcoef(values.T) - np.eye(len(faces.ATTRIBUTES))
    assert np.abs(correlation).max() < 0.06


def numbered(num, changed):
    """Pictures whose pixels and values are their number."""
    images = np.repeat(np.arange(num, dtype=np.uint8), 64 * 64 * 3).reshape(num, 64, 64, 3)
    values = np.arange(num, dtype=np.float32)[:, None].repeat(len(ATTRIBUTES), 1)
    return Pictures(images, values, np.array(changed))


def test_batches_pass_over_every_picture_before_any_returns():
    stream = batches(numbered(8, [-1] * 8), 4, 0, seed=0)
    seen = [next(stream).values[:, 0].tolist() for _ in range(4)]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == list(range(8))


def test_batches_end_in_the_changes_of_their_own_pictures():
    stream = batches(numbered(9, [6, -1, 7, -1, 8, -1, -1, -1, -1]), 6, 2, seed=0)
    for _ in range(6):
        batch = next(stream)
        numbers = batch.values[:, 0].tolist()
        assert max(numbers[:4]) <= 5
        assert len(numbers) == 4 + len(batch.changed)
        for before, after in batch.changed.tolist():
            assert numbers[after] == {0: 6, 2: 7, 4: 8}[numbers[before]]


@pytest.mark.parametrize("kind", ["faces", "avataaars", "open-peeps"])
def test_a_changed_picture_differs_in_one_attribute(kind):
    pictures = draw_faces(20, 5, 0.7, 12) if kind == "faces" else draw_portraits(20, 5, kind, 12)
    before, after = pictures.pairs()
    assert 0 < len(before) <= 12
    moved = np.abs(np.nan_to_num(after.values - before.values))
    assert ((moved > 0).sum(axis=1) == 1).all()
    assert (moved.max(axis=1) > 0.349).all()
    assert ((after.values >= 0) | np.isnan(after.values)).all()
    assert (before.images != after.images).any(axis=(1, 2, 3)).all()


def test_joined_pictures_keep_their_changes():
    one, two = numbered(3, [2, -1, -1]), numbered(4, [-1, 3, -1, -1])
    assert joined([one, two]).changed.tolist() == [2, -1, -1, -1, 6, -1, -1]


def test_augmented_pixels_stay_in_range_and_near_the_picture():
    pixels = to_pixels(draw_faces(16, 3).images)
    changed = augment(pixels, torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert changed.abs().max() <= 1
    assert 0 < (changed - pixels).abs().mean() < 0.3
