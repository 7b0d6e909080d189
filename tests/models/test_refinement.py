"""A graph that is learned beside the model: at rest it is the observed one, and its two views come to agree."""

import numpy as np
import torch

from graphdrl.models.disgraph import DisGraph
from graphdrl.relations.edges import NodeMap

OBSERVED = np.array([[0, 0.5, 0, 0], [-0.25, 0, 0, 0], [0, 0, 0, 0.3], [0, 0, 0, 0]], np.float32)


def graph() -> DisGraph:
    torch.manual_seed(0)
    made = DisGraph(4, "refined", NodeMap.ranked(4))
    made.set_adjacency(OBSERVED)
    return made


def test_at_rest_it_mixes_along_the_observed_relations() -> None:
    mixing = DisGraph(4, "mixing", NodeMap.ranked(4))
    mixing.set_adjacency(OBSERVED)
    codes = torch.randn(3, 6)
    torch.testing.assert_close(graph()(codes), mixing(codes))


def test_the_learned_graph_stays_in_bounds_and_without_loops() -> None:
    refining = graph()
    torch.nn.init.constant_(refining.learner.change, 9.0)
    refined = refining.refined
    assert refined.abs().max() <= 1
    assert refined.diagonal().abs().max() == 0


def test_refining_lets_the_views_agree_and_moves_the_anchor() -> None:
    refining = graph()
    optimizer = torch.optim.Adam(refining.parameters(), 1e-2)
    costs = []
    for step in range(150):
        noise = torch.randn(40, 6, generator=torch.Generator().manual_seed(step))
        cost = refining.contrast(noise)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert np.mean(costs[-20:]) < 0.7 * np.mean(costs[:20])
    anchor = refining.learner.anchor
    assert 0 < (anchor - refining.adjacency).abs().max() < (refining.refined - refining.adjacency).abs().max()
    refining.set_adjacency(OBSERVED)
    assert torch.equal(refining.learner.anchor, refining.adjacency)


def test_other_learners_have_no_contrast() -> None:
    assert DisGraph(4, "gcn", NodeMap.ranked(4)).contrast(torch.randn(2, 6)) == 0
