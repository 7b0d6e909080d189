"""What a model says of images without labels, in one pass."""

import numpy as np
import pytest
import torch

from graphdrl.metrics.elbo import elbo
from graphdrl.models import GEM
from graphdrl.models.gem import GEMConfig
from graphdrl.training import posterior

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)


def model() -> GEM:
    torch.manual_seed(0)
    return GEM(GEMConfig(image_size=32, num_latents=5, base_channels=4, attributes=("bald", "age"))).eval()


def test_codes_are_the_models_and_the_bound_is_that_of_its_images() -> None:
    gem = model()
    shown = posterior(gem, IMAGES, seed=3)
    np.testing.assert_allclose(shown.codes, gem.encode(IMAGES).numpy(), atol=1e-6)
    assert shown.kl.shape == (5,)
    assert (shown.kl >= 0).all()
    noise = torch.randn(7, 5, generator=torch.Generator().manual_seed(3))
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        outputs = gem(pixels, noise, noise[:0])
    error = (outputs.reconstruction - pixels).square().sum((1, 2, 3)).numpy()
    assert shown.elbo == pytest.approx(elbo(error, np.full(7, shown.kl.sum()), 3072).mean(), rel=1e-5)


def test_it_is_a_function_of_images_and_seed_and_changes_nothing() -> None:
    gem = model()
    before = torch.random.get_rng_state()
    first, second, other = (posterior(gem, IMAGES, seed).elbo for seed in (0, 0, 1))
    assert first == second != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_better_decoder_has_a_higher_bound() -> None:
    good, bad = model(), model()

    class Grey(torch.nn.Module):
        def __init__(self, level: float) -> None:
            super().__init__()
            self.level = level

        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return torch.full((len(codes), 3, 32, 32), self.level)

    good.decoder, bad.decoder = Grey(0.5), Grey(0.0)
    assert posterior(good, IMAGES).elbo > posterior(bad, IMAGES).elbo
