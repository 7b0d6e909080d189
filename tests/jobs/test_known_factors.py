"""What a job knows of its images: true relations and independent draws where factors are known, nothing elsewhere."""

import numpy as np
import pytest

from graphdrl.config import load_config
from jobs import check_job, held_out_images, known_relations


def config(*overrides):
    return load_config(None, ["oracle.engine=none", "data.num_test=400", *overrides])


def test_relations_of_a_grid_are_those_of_its_correlated_draws():
    sprites = config("data.source=sprites", "data.parameters={correlation: single}")
    truth = known_relations(sprites)
    assert truth.shape == (3, 3)
    assert truth[1, 2] > 0.7  # x and y
    assert np.abs(truth[0]).max() < 0.02  # scale with neither
    assert known_relations(config("data.source=sprites", "attributes=[scale, colour]")) is None


def test_test_images_are_independent_and_others_are_drawn_as_those_of_training():
    sprites = config("data.source=sprites", "data.parameters={correlation: single}")
    independent, as_trained = held_out_images(sprites), held_out_images(sprites, independent=False)
    assert abs(np.corrcoef(independent.grades[:, 1:].T)[0, 1]) < 0.15
    assert np.corrcoef(as_trained.grades[:, 1:].T)[0, 1] > 0.8
    assert len(independent) == 400


def test_of_photographs_nothing_is_known():
    photographs = config("data.source=photographs")
    assert known_relations(photographs) is None
    assert held_out_images(photographs) is None


def test_a_published_file_that_is_not_there_is_said_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file '.*3dshapes\.h5' to read the images of solids from"):
        check_job(config("data.source=solids", f"data.path={tmp_path / '3dshapes.h5'}", f"runs={tmp_path}"))
