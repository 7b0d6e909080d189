import numpy as np
import pytest

from graphdrl.metrics import reconstruction


def test_errors_worked_by_hand():
    images = np.full((2, 1, 1, 3), 255, np.uint8)
    numbers = reconstruction(images, np.full((2, 1, 1, 3), 0.9, np.float32))
    assert numbers["reconstruction_mse"] == pytest.approx(0.01, rel=1e-5)
    assert numbers["reconstruction_mae"] == pytest.approx(0.1, rel=1e-5)
    assert numbers["reconstruction_psnr"] == pytest.approx(20, rel=1e-5)
    assert reconstruction(images, images)["reconstruction_mse"] == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        reconstruction(np.zeros((2, 4, 4, 3)), np.zeros((2, 3, 4, 4)))
