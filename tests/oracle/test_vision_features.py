"""Features of the built-in model: the same in any batch and at any size of image, and further apart the worse."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from graphdrl.images import load_source
from graphdrl.metrics.fid import fid, kid
from graphdrl.oracle.tiny.features import VisionFeatures


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return load_source("faces").draw(60, 64, seed=5).images


def test_features_are_of_the_image_alone(faces: np.ndarray) -> None:
    features = VisionFeatures()
    found = features(faces[:10])
    assert found.shape == (10, 128)
    np.testing.assert_allclose(VisionFeatures(batch_size=3)(faces[:10]), found, atol=1e-5)
    doubled = faces[:10].repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(features(doubled), found, atol=0.1 * found.std())


def test_the_more_an_image_is_blurred_the_further_it_is(faces: np.ndarray) -> None:
    features = VisionFeatures()
    seen, made = features(faces), [features(blurred(faces, radius)) for radius in (0.5, 1.5)]
    for distance in (fid, kid):
        distances = [distance(seen, each) for each in made]
        assert distances == sorted(distances)
        assert distances[0] >= distance(seen, seen)


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    return np.stack([np.array(Image.fromarray(one).filter(ImageFilter.GaussianBlur(radius))) for one in images])
