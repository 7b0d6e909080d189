"""The loader: batches by seed and step, however many ranks share them."""

import numpy as np
import pytest
import torch

from graphdrl.images import ImageSet
from graphdrl.images.loader import Loader, to_float, to_uint8

NUM = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 8, 8, 3), np.uint8)
IMAGE_SET = ImageSet(IMAGES, tuple(str(row) for row in range(NUM)))


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_parts_of_all_ranks_are_the_batch_of_one(world_size):
    whole = Loader(IMAGE_SET, 10, seed=4)
    ranks = [Loader(IMAGE_SET, 10, seed=4, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in (0, 1, 2, 7, 100):
        parts = [rank.batch(step) for rank in ranks]
        np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), whole.batch(step).rows)
        np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.batch(step).images)


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own():
    loader = Loader(IMAGE_SET, 10, seed=4)
    stream = np.concatenate([loader.rows(step) for step in range(NUM)])
    epochs = stream.reshape(10, NUM)
    assert all(sorted(epoch) == list(range(NUM)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_step_does_not_depend_on_the_steps_before_it():
    loader = Loader(IMAGE_SET, 10, seed=4)
    for step in range(50):
        loader.batch(step)
    np.testing.assert_array_equal(loader.batch(9).rows, Loader(IMAGE_SET, 10, seed=4).batch(9).rows)
    assert not np.array_equal(loader.batch(9).rows, Loader(IMAGE_SET, 10, seed=5).batch(9).rows)


def test_a_batch_larger_than_the_set_goes_round():
    rows = Loader(IMAGE_SET, 2 * NUM + 1, seed=0).rows(0)
    assert np.bincount(rows).min() == 2


def test_images_may_be_a_memory_map(tmp_path):
    np.save(tmp_path / "pixels.npy", IMAGES)
    mapped = ImageSet(np.load(tmp_path / "pixels.npy", mmap_mode="r"), IMAGE_SET.ids)
    np.testing.assert_array_equal(Loader(mapped, 8, 1).batch(3).images, Loader(IMAGE_SET, 8, 1).batch(3).images)
    torch.testing.assert_close(to_float(mapped.images), to_float(IMAGES))


def test_bytes_become_floats_in_channels_last_order_and_come_back():
    floats = to_float(IMAGES)
    assert floats.shape == (NUM, 3, 8, 8)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert floats[2, 1, 3, 4].item() == pytest.approx(IMAGES[2, 3, 4, 1] / 255)
    np.testing.assert_array_equal(to_uint8(floats), IMAGES)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank 2 is not one of 2 ranks"),
        ({"batch_size": 2, "world_size": 3}, "one each or more"),
    ],
)
def test_shares_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Loader(IMAGE_SET, seed=0, **kwargs)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Loader(ImageSet(IMAGES[:0], ()), 4, 0)


def test_pairs_stay_side_by_side_and_every_epoch_shows_each_once():
    loader = Loader(IMAGE_SET, 4, seed=4, together=2)
    stream = np.concatenate([loader.rows(step) for step in range(11)]).reshape(2, 11, 2)  # the odd image is left out
    assert all(sorted(epoch[:, 0]) == list(range(0, NUM - 1, 2)) for epoch in stream)
    np.testing.assert_array_equal(stream[..., 1], stream[..., 0] + 1)
    assert not np.array_equal(stream[0], stream[1])


def test_ranks_get_whole_pairs():
    with pytest.raises(ValueError, match="a batch of 6 images is no whole number of pairs on 2 ranks"):
        Loader(IMAGE_SET, 6, seed=0, world_size=2, together=2)
