"""Methods by name, and what GEM's losses are made of."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from graphdrl.methods import Batch, Method, ModelShape, load_method, method_classes
from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import Edges, NodeMap, RelationsVersion

ATTRIBUTES = ("bald", "beard", "smile")
SHAPE = ModelShape(image_size=32, attributes=ATTRIBUTES, num_latents=6, base_channels=4)


def make_batch(num_plain: int = 4, num_groups: int = 2, group_size: int = 3, progress: float = 1.0) -> Batch:
    torch.manual_seed(0)
    num_scored = num_groups * group_size
    return Batch(
        plain=torch.rand(num_plain, 3, 32, 32),
        scored=torch.rand(num_scored, 3, 32, 32),
        scored_grades=torch.rand(num_scored, 3) * 5,
        pair_scale=torch.tensor([1.0, 2.0, 1.5]),
        noise_plain=torch.randn(num_plain, 6),
        noise_scored=torch.randn(num_scored, 6),
        prior=torch.randn(num_plain, 6),
        progress=progress,
        group_size=group_size,
    )


def make_version(node_map: NodeMap) -> RelationsVersion:
    weights = np.array([[0, 0.5, 0], [0.2, 0, 0], [0, 0, 0]], np.float32)
    edges = Edges(
        ATTRIBUTES, weights, weights - 0.1, weights + 0.1, weights != 0, weights, weights, "somers_d", num_scored=2
    )
    pair, grades = ("1", "2"), np.zeros((2, 3), np.float32)
    ones, none = np.ones(2, np.float32), np.zeros(2, bool)
    scores = Scores(pair, ATTRIBUTES, grades, grades, grades, ones, none, "data", "tiny", "1")
    return RelationsVersion(1, "key", edges, scores, np.full(2, 0.5, np.float32), node_map, 2.0)


def test_methods_are_found_by_name() -> None:
    assert {"beta_vae", "factor_vae", "gem"} <= method_classes().keys()
    for name, method in method_classes().items():
        assert method.name == name


def test_an_unknown_method_is_answered_with_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'gme'; did you mean 'gem'.*beta_vae, .*gem, "):
        load_method("gme")


@pytest.mark.parametrize("parameters", [{"rank_wieght": 1.0}, {"rank_weight": -1.0}, {"nodes": "guessed"}])
def test_parameters_are_closed_and_bounded(parameters: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(parameters))):
        load_method("gem", **parameters)


@pytest.mark.parametrize("name", sorted(method_classes()))
def test_every_parameter_says_what_it_is_and_survives_pickling(name: str) -> None:
    parameters = method_classes()[name].Parameters()
    assert pickle.loads(pickle.dumps(parameters)) == parameters
    assert all(field.description for field in type(parameters).model_fields.values())


@pytest.mark.parametrize("num_groups", [0, 2])
@pytest.mark.parametrize("name", sorted(method_classes()))
def test_a_step_gives_every_weight_a_finite_gradient(name: str, num_groups: int) -> None:
    method: Method = load_method(name)
    generator, critic = method.build(SHAPE)
    batch = make_batch(num_groups=num_groups)
    step = next((step for step in range(100) if method.wants_critic(step)), None)
    assert (step is None) == (critic is None)
    losses, outputs = method.generator_loss(generator, critic, batch)
    losses["total"].backward()
    modules = [generator]
    if critic is not None:
        critic.zero_grad()
        method.critic_loss(critic, batch, outputs)["total"].backward()
        modules.append(critic)
    for module in modules:
        for weight, parameter in module.named_parameters():
            assert parameter.grad is not None, weight
            assert parameter.grad.isfinite().all(), weight


def test_with_a_graph_at_rest_gem_is_exactly_the_beta_vae() -> None:
    gem = load_method("gem", beta=2.0, rank_weight=0.0, critic_weight=0.0)
    beta_vae = load_method("beta_vae", beta=2.0)
    generator, critic = gem.build(SHAPE)
    assert critic is None
    plain, _ = beta_vae.build(SHAPE)
    plain.load_state_dict({name: generator.state_dict()[name] for name in plain.state_dict()})
    gem.set_relations(generator, make_version(NodeMap.ranked(3)))  # its last layer is zero: edges change nothing yet
    batch = make_batch(num_groups=0)
    losses, outputs = gem.generator_loss(generator, None, batch)
    expected, expected_outputs = beta_vae.generator_loss(plain, None, batch)
    assert torch.equal(losses["total"], expected["total"])
    assert torch.equal(outputs.reconstruction, expected_outputs.reconstruction)
    losses["total"].backward()
    expected["total"].backward()
    gradients = {name: parameter.grad for name, parameter in generator.named_parameters()}
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    method = load_method("gem", beta=2.0, rank_weight=10.0, critic_weight=0.5, reconstruction_weight=3.0)
    generator, critic = method.build(SHAPE)
    losses, _ = method.generator_loss(generator, critic, make_batch())
    terms = 3.0 * losses["reconstruction"] + 2.0 * losses["kl"] + 10.0 * losses["rank"] + 0.5 * losses["divergence"]
    torch.testing.assert_close(losses["total"], terms)


@pytest.mark.parametrize(("nodes", "encoded"), [("ranked", 10), ("discovered", 4)])
def test_scored_images_can_be_left_out_of_the_reconstruction(nodes: str, encoded: int) -> None:
    batch = make_batch()
    every = load_method("gem", nodes=nodes, critic_weight=0.0)
    generator, _ = every.build(SHAPE)
    losses, outputs = every.generator_loss(generator, None, batch)
    assert len(outputs.mu) == len(outputs.reconstruction) == 10
    half = load_method("gem", nodes=nodes, critic_weight=0.0, decode_scored=False)
    other, outputs = half.generator_loss(generator, None, batch)
    assert len(outputs.mu) == encoded
    assert len(outputs.reconstruction) == 4
    assert losses.get("rank") == other.get("rank")


def test_every_rival_at_rest_is_the_vae() -> None:
    plain = load_method("vae")
    generator, _ = plain.build(SHAPE)
    batch = make_batch()
    expected = plain.generator_loss(generator, None, batch)[0]["total"]
    at_rest = {
        "beta_vae": {"beta": 1.0},
        "beta_tc_vae": {"beta": 1.0},
        "dip_vae_i": {"off_diagonal": 0.0, "diagonal": 0.0},
        "dip_vae_ii": {"off_diagonal": 0.0, "diagonal": 0.0},
        "hfs": {"gamma": 0.0},
        "semi_beta_vae": {"regression_weight": 0.0},
    }
    for name, parameters in at_rest.items():
        method = load_method(name, **parameters)
        assert torch.equal(method.generator_loss(generator, None, batch)[0]["total"], expected), name
    factor_vae = load_method("factor_vae", gamma=0.0)
    _, critic = factor_vae.build(SHAPE)
    assert torch.equal(factor_vae.generator_loss(generator, critic, batch)[0]["total"], expected)


def test_the_capacity_of_the_annealed_vae_grows_with_the_steps() -> None:
    method = load_method("annealed_vae", capacity=30.0, rise=0.5)
    generator, _ = method.build(SHAPE)
    for progress, capacity in ((0.0, 0.0), (0.25, 15.0), (0.5, 30.0), (1.0, 30.0)):
        losses, _ = method.generator_loss(generator, None, make_batch(progress=progress))
        torch.testing.assert_close(losses["distance"], (losses["kl"] - capacity).abs())


def test_the_critic_of_the_factor_vae_finds_dependent_codes() -> None:
    torch.manual_seed(0)
    method = load_method("factor_vae")
    generator, critic = method.build(SHAPE)
    batch = make_batch(num_plain=64, num_groups=0)
    _, outputs = method.generator_loss(generator, critic, batch)
    outputs = outputs._replace(z=torch.randn(64, 1).expand(64, 6) + 0.1 * torch.randn(64, 6))
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    for _ in range(60):
        losses = method.critic_loss(critic, batch, outputs)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert losses["accuracy"] > 0.9
    assert critic(outputs.z).mean() > critic(torch.randn(64, 6)).mean() + 1


def test_the_papers_loss_is_its_three_weighted_terms_and_the_graphs() -> None:
    method = load_method("gem_paper", beta=2.0)
    generator, critic = method.build(SHAPE)
    losses, _ = method.generator_loss(generator, critic, make_batch())
    disentangling = 3.0 * losses["reconstruction"] + 2.0 * losses["kl"]
    torch.testing.assert_close(losses["total"], 0.6 * disentangling + 0.6 * losses["divergence"] + losses["contrast"])


def test_the_prior_of_dear_takes_the_given_graph() -> None:
    method = load_method("dear", causes=(("beard", "bald"),))
    generator, critic = method.build(SHAPE)
    losses, outputs = method.generator_loss(generator, critic, make_batch())
    losses["total"].backward()
    reached = generator.causal_prior.weights.grad != 0
    assert reached.nonzero().tolist() == [[1, 0]]
    assert len(outputs.prior) == 4
    with pytest.raises(ValueError, match=r"causes name \['bread'\], which are no attributes"):
        load_method("dear", causes=(("bread", "bald"),)).build(SHAPE)


def test_the_rank_loss_warms_up_and_needs_scores() -> None:
    method = load_method("gem", rank_weight=10.0, rank_warmup=0.2, critic_weight=0.0)
    generator, _ = method.build(SHAPE)

    def supervision(batch: Batch) -> torch.Tensor:
        losses, _ = method.generator_loss(generator, None, batch)
        return losses["total"] - 3 * losses["reconstruction"] - losses["kl"]

    whole = supervision(make_batch(progress=1.0))
    assert supervision(make_batch(progress=0.0)).abs() < 1e-3
    torch.testing.assert_close(supervision(make_batch(progress=0.1)), whole / 2, rtol=1e-3, atol=1e-3)
    assert supervision(make_batch(num_groups=0)).abs() < 1e-3


def test_ranked_nodes_learn_to_order_the_scored_images() -> None:
    method = load_method("gem", critic_weight=0.0)
    torch.manual_seed(0)
    generator, _ = method.build(SHAPE)
    batch = make_batch(num_groups=1, group_size=8)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-2)
    for _ in range(40):
        losses, outputs = method.generator_loss(generator, None, batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    grades, mu = batch.scored_grades, outputs.mu[len(batch.plain) :, :3]
    apart = (grades[:, None] - grades[None]) >= 0.5
    ordered = (mu[:, None] - mu[None]) > 0
    assert ordered[apart].float().mean() > 0.95


def test_discovered_nodes_train_without_scores_and_take_a_map_later() -> None:
    method = load_method("gem", nodes="discovered", critic_weight=0.0)
    generator, _ = method.build(SHAPE)
    batch = make_batch()
    losses, _ = method.generator_loss(generator, None, batch)
    assert "rank" not in losses
    other_grades, _ = method.generator_loss(generator, None, replace(batch, scored_grades=batch.scored_grades.flip(0)))
    assert torch.equal(losses["total"], other_grades["total"])
    assert generator.nodes[0] == "factor_0"
    method.set_relations(generator, make_version(NodeMap((5, -1, 2), (1, 1, -1))))
    assert generator.nodes == ("factor_0", "factor_1", "smile", "factor_3", "factor_4", "bald")


def test_without_the_graph_relations_are_known_but_not_in_the_model() -> None:
    method = load_method("gem", use_graph=False)
    generator, _ = method.build(SHAPE)
    method.set_relations(generator, make_version(NodeMap.ranked(3)))
    assert generator.disgraph.learner is None
    assert generator.relations.num_scored == 2


def test_the_critic_plays_every_nth_step_on_detached_outputs() -> None:
    method = load_method("gem", critic_every=3)
    assert [step for step in range(7) if method.wants_critic(step)] == [0, 3, 6]
    generator, critic = method.build(SHAPE)
    batch = make_batch()
    _, outputs = method.generator_loss(generator, critic, batch)
    method.critic_loss(critic, batch, outputs)["total"].backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
