"""GEM as people use it: encode, decode, edit, traverse, sample, and its training pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphdrl.models import GEM, GEMConfig
from graphdrl.relations.edges import Edges, NodeMap
from graphdrl.relations.weights import latent_correlation

ATTRIBUTES = ("bald", "beard", "smile")


def relations(weights: np.ndarray | None = None) -> Edges:
    weights = np.array([[0, 0.5, 0], [0.25, 0, 0], [0, 0, 0]], np.float32) if weights is None else weights
    return Edges(
        attributes=ATTRIBUTES,
        weights=weights,
        low=weights - 0.1,
        high=weights + 0.1,
        resolved=weights != 0,
        strength=((weights + weights.T) / 2).astype(np.float32),
        partial=weights,
        estimator="somers_d",
        num_scored=500,
    )


@pytest.fixture
def model() -> GEM:
    torch.manual_seed(0)
    built = GEM(GEMConfig(image_size=32, num_latents=6, attributes=ATTRIBUTES, base_channels=4)).eval()
    torch.nn.init.normal_(built.disgraph.learner.out.weight)
    # Scales as in a trained model: an untrained encoder hardly tells images apart.
    torch.nn.init.normal_(built.encoder.moments.weight)
    return built


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def test_the_training_pass_is_a_function_of_its_inputs(model: GEM, images: torch.Tensor) -> None:
    noise, prior = torch.randn(2, 6), torch.randn(3, 6)
    outputs = model(images, noise, prior)
    torch.testing.assert_close(outputs.mu, model.encode(images))
    torch.testing.assert_close(outputs.z, outputs.mu[:2] + (0.5 * outputs.logvar[:2]).exp() * noise)
    torch.testing.assert_close(outputs.reconstruction, model.decode(outputs.z.detach()))
    torch.testing.assert_close(outputs.generated, model.decode(prior))


def test_the_training_pass_takes_empty_parts(model: GEM, images: torch.Tensor) -> None:
    outputs = model(images, torch.randn(0, 6), torch.zeros(0, 6))
    assert outputs.mu.shape == (4, 6)
    assert outputs.reconstruction.shape == outputs.generated.shape == (0, 3, 32, 32)


def test_mixed_precision_stays_near_and_comes_back_in_float32(model: GEM, images: torch.Tensor) -> None:
    exact = model(images, torch.zeros(4, 6), torch.zeros(0, 6))
    model.mixed_precision = True
    rounded = model(images, torch.zeros(4, 6), torch.zeros(0, 6))
    assert all(tensor.dtype == torch.float32 for tensor in rounded)
    torch.testing.assert_close(rounded.mu, exact.mu, atol=0.05, rtol=0.05)
    torch.testing.assert_close(rounded.reconstruction, exact.reconstruction, atol=0.05, rtol=0.05)


def test_stored_bytes_and_floats_are_the_same_images(model: GEM) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    floats = torch.from_numpy(stored).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(model.encode(stored), model.encode(floats))


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (3, 32, 32), (2, 1, 32, 32)])
def test_images_of_another_shape_are_refused(model: GEM, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"this model takes float \[B, 3, 32, 32\]"):
        model.encode(torch.rand(shape))


def test_the_aggregate_code_is_measured(model: GEM, images: torch.Tensor) -> None:
    model.calibrate(images, batch_size=3)
    mu, logvar = model.encoder(images)
    draws = mu + (0.5 * logvar).exp() * torch.randn(20_000, 4, 6)
    torch.testing.assert_close(model.code_mean, mu.mean(0))
    torch.testing.assert_close(model.code_scale, draws.flatten(0, 1).std(0), rtol=0.03, atol=0)


def test_an_edit_moves_one_code_by_deviations_of_the_aggregate(model: GEM, images: torch.Tensor) -> None:
    model.calibrate(images)
    codes = model.encode(images)
    codes[:, 1] += 2 * model.code_scale[1]
    torch.testing.assert_close(model.edit(images, {"beard": 2}), model.decode(codes))
    torch.testing.assert_close(model.edit(images, {}), model.reconstruct(images))


def test_an_edit_can_take_neighbours_along_the_edges(model: GEM, images: torch.Tensor) -> None:
    model.calibrate(images)
    model.set_relations(relations(), NodeMap.ranked(3))
    codes = model.encode(images)
    carried = codes + torch.tensor([2.0, 0.5 * 2, 0, 0, 0, 0]) * model.code_scale
    torch.testing.assert_close(model.edit(images, {"bald": 2}, propagate=True), model.decode(carried))
    held = codes + torch.tensor([2.0, -1, 0, 0, 0, 0]) * model.code_scale
    torch.testing.assert_close(model.edit(images, {"bald": 2, "beard": -1}, propagate=True), model.decode(held))


def test_a_discovered_node_is_edited_in_its_dimension_with_its_sign(images: torch.Tensor) -> None:
    config = GEMConfig(image_size=32, num_latents=6, attributes=ATTRIBUTES, base_channels=4, dimensions=(-1, -1, -1))
    model = GEM(config)
    assert model.nodes == tuple(f"factor_{dimension}" for dimension in range(6))
    with pytest.raises(ValueError, match="unknown attribute 'bald'"):
        model.edit(images, {"bald": 1})
    model.set_relations(relations(), NodeMap((4, -1, 0), (-1, 1, 1)))
    assert model.nodes == ("smile", "factor_1", "factor_2", "factor_3", "bald", "factor_5")
    codes = model.encode(images)
    codes[:, 4] -= 1
    torch.testing.assert_close(model.edit(images, {"bald": 1}), model.decode(codes))


def test_an_unknown_attribute_is_answered_with_the_valid_ones_and_the_nearest(model: GEM, images: torch.Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"'berd'; did you mean 'beard'\? this model has: bald, beard, smile, factor_3"
    ):
        model.edit(images, {"berd": 1})


def test_a_traversal_sets_one_code_to_each_value(model: GEM, images: torch.Tensor) -> None:
    model.calibrate(images)
    strips = model.traverse(images, "smile", [-1.0, 0.0, 2.5])
    assert strips.shape == (4, 3, 3, 32, 32)
    codes = model.encode(images)
    codes[:, 2] = model.code_mean[2] + 2.5 * model.code_scale[2]
    torch.testing.assert_close(strips[:, 2], model.decode(codes))
    torch.testing.assert_close(model.traverse(model.encode(images), "smile", [-1.0, 0.0, 2.5]), strips)
    assert model.traverse(images, "factor_5", [0.0]).shape == (4, 1, 3, 32, 32)


def test_samples_are_repeatable_and_relations_correlate_their_codes(
    model: GEM, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torch.equal(model.sample(3, seed=5), model.sample(3, seed=5))
    edges = relations(np.array([[0, 0.6, 0], [0.6, 0, 0], [0, 0, 0]], np.float32))
    model.set_relations(edges, NodeMap.ranked(3))
    drawn = []
    monkeypatch.setattr(model, "decode", drawn.append)
    model.sample(20_000)
    model.sample(20_000, related=False)
    expected = torch.eye(6, dtype=torch.float64)
    expected[:3, :3] = torch.from_numpy(latent_correlation(edges))
    torch.testing.assert_close(torch.corrcoef(drawn[0].T).double(), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.corrcoef(drawn[1].T), torch.eye(6), atol=0.03, rtol=0)


def test_samples_given_a_node_take_along_what_goes_with_it(model: GEM, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = relations(np.array([[0, 0.6, 0], [0.6, 0, 0], [0, 0, 0]], np.float32))
    model.set_relations(edges, NodeMap((2, 0, 1), (1, -1, 1)))
    drawn = []
    monkeypatch.setattr(model, "decode", drawn.append)
    first = edges.attributes[0]
    model.sample(20_000, given={first: 2.0, "factor_5": -1.0})
    model.sample(20_000, given={first: 2.0}, related=False)
    rho = latent_correlation(edges)[0, 1]
    related, plain = drawn
    assert (related[:, 2] == 2.0).all()
    assert (related[:, 5] == -1.0).all()
    # Of two standard normal variables one given the other has mean rho g and variance 1 - rho^2; node 1 has sign -1.
    assert -related[:, 0].mean() == pytest.approx(2 * rho, abs=0.03)
    assert related[:, 0].var() == pytest.approx(1 - rho**2, abs=0.03)
    assert related[:, 1].mean() == pytest.approx(0, abs=0.03)
    assert plain[:, 0].mean() == pytest.approx(0, abs=0.03)
    with pytest.raises(ValueError, match="unknown attribute"):
        model.sample(1, given={"nothing": 1.0})


def test_dimensions_are_named_after_what_their_traversals_show(model: GEM, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(3, 3, 32, 32)
    shows = {1: (0, 1.0), 4: (2, -0.5)}  # dimension 1 brightens red, dimension 4 darkens blue

    def along(codes: torch.Tensor, dimension: int, values: tuple[float, ...]) -> torch.Tensor:
        pictures = torch.full((len(codes), len(values), 3, 32, 32), 0.5)
        if dimension in shows:
            channel, slope = shows[dimension]
            pictures[:, :, channel] += 0.2 * slope * torch.tensor(values)[:, None, None]
        return pictures

    monkeypatch.setattr(model, "_along", along)
    first, second, third = model.config.attributes
    named = model.name_nodes(lambda pictures: pictures.mean(axis=(1, 2)) / 51, images)
    assert named == ("factor_0", first, "factor_2", "factor_3", third, "factor_5")
    assert second not in model.nodes
    assert model.disgraph.node_map == NodeMap((1, -1, 4), (1, 1, -1))


def test_only_resolved_edges_of_the_same_attributes_enter_the_model(model: GEM) -> None:
    unresolved = replace(relations(), resolved=np.zeros((3, 3), bool))
    model.set_relations(unresolved, NodeMap.ranked(3))
    assert not model.disgraph.adjacency.any()
    with pytest.raises(ValueError, match="do not fit nodes"):
        model.set_relations(replace(relations(), attributes=("a", "b", "c")), NodeMap.ranked(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 48}, "image_size is 48"),
        ({"attributes": ("a", "a")}, "distinct"),
        ({"attributes": ("a", "b"), "num_latents": 1}, "do not fit into num_latents=1"),
        ({"attributes": ("a",), "signs": (2,)}, "signs must be -1 or 1"),
        ({"attributes": ("a",), "dimensions": ()}, "one entry for every attribute"),
        ({"latents": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GEMConfig(**options)
