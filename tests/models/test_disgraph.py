"""The relation graph in the model: A = 0, direction, sign, equivariance, node maps."""

import numpy as np
import pytest
import torch

from graphdrl.models.convolution import ResidualGCN, normalised
from graphdrl.models.disgraph import DisGraph
from graphdrl.relations.edges import NodeMap


def awake(graph: DisGraph) -> DisGraph:
    """The graph with a graph learner whose last layer is not zero any more, as after training."""
    torch.manual_seed(1)
    torch.nn.init.normal_(graph.learner.out.weight)
    return graph


def test_normalisation_against_a_case_worked_by_hand() -> None:
    adjacency = torch.tensor([[0.0, -0.5], [0.0, 0.0]])
    # |A| + I has out-degrees (1.5, 1) and in-degrees (1, 1.5).
    expected = torch.tensor([[1 / 1.5**0.5, -0.5 / 1.5], [0.0, 1 / 1.5**0.5]])
    torch.testing.assert_close(normalised(adjacency), expected)


@pytest.mark.parametrize("learner", ["gcn", "mixing", "none"])
def test_without_edges_a_new_graph_changes_no_code(learner: str) -> None:
    codes = torch.randn(5, 7)
    assert torch.equal(DisGraph(3, learner, NodeMap.ranked(3))(codes), codes)


def test_a_new_gcn_changes_no_code_whatever_the_edges() -> None:
    graph = DisGraph(3, "gcn", NodeMap.ranked(3))
    graph.set_adjacency(np.full((3, 3), 0.5))
    codes = torch.randn(5, 7)
    assert torch.equal(graph(codes), codes)


def test_mixing_is_the_papers_form() -> None:
    graph = DisGraph(2, "mixing", NodeMap.ranked(2))
    adjacency = torch.tensor([[0.0, 0.5], [-0.25, 0.0]])
    graph.set_adjacency(adjacency.numpy())
    codes = torch.tensor([[2.0, 4.0, 9.0]])
    # (I + A)^T z: node 0 takes -0.25 of node 1, node 1 takes 0.5 of node 0; the third code has no node.
    torch.testing.assert_close(graph(codes), torch.tensor([[1.0, 5.0, 9.0]]))


def test_messages_follow_the_edges_direction() -> None:
    graph = awake(DisGraph(3, "gcn", NodeMap.ranked(3)))
    graph.set_adjacency(np.array([[0, 0.8, 0], [0, 0, 0], [0, 0, 0]]))
    codes = torch.randn(1, 4)
    moved = codes.clone()
    moved[0, 0] += 1
    change = graph(moved) - moved - (graph(codes) - codes)
    assert change[0, 1].abs() > 1e-4
    assert torch.equal(change[0, 2:], torch.zeros(2))
    moved = codes.clone()
    moved[0, 1] += 1
    assert (graph(moved) - graph(codes))[0, 0] == 0


def test_gcn_is_equivariant_to_the_order_of_the_attributes() -> None:
    torch.manual_seed(0)
    learner = ResidualGCN(5)
    torch.nn.init.normal_(learner.out.weight)
    values, adjacency, order = torch.randn(4, 5), torch.rand(5, 5) * 2 - 1, torch.randperm(5)
    expected = learner(values, adjacency)[:, order]
    learner.embeddings.data = learner.embeddings.data[order]
    torch.testing.assert_close(learner(values[:, order], adjacency[order][:, order]), expected)


def test_a_node_map_moves_the_graph_to_other_dimensions_with_their_sign() -> None:
    graph = DisGraph(2, "mixing", NodeMap((3, 1), (1, -1)))
    graph.set_adjacency(np.array([[0, 0.5], [0, 0]]))
    codes = torch.tensor([[7.0, 2.0, 7.0, 4.0]])
    # Node 1 (less of dimension 1) gains 0.5 * 4, so its dimension loses 2.
    torch.testing.assert_close(graph(codes), torch.tensor([[7.0, 0.0, 7.0, 4.0]]))
    torch.testing.assert_close(graph.named(codes), torch.tensor([[4.0, -2.0]]))


def test_an_attribute_that_no_dimension_shows_neither_hears_nor_speaks() -> None:
    graph = awake(DisGraph(2, "gcn", NodeMap((-1, 1), (1, 1))))
    graph.set_adjacency(np.array([[0, 1.0], [1.0, 0]]))
    codes = torch.randn(3, 4)
    change = graph(codes) - codes
    assert torch.equal(change[:, [0, 2, 3]], torch.zeros(3, 3))
    assert graph.node_map == NodeMap((-1, 1), (1, 1))


def test_new_edges_are_taken_in_place() -> None:
    graph = DisGraph(2, "gcn", NodeMap.ranked(2))
    buffer = graph.adjacency
    edges = np.array([[0, 0.25], [0.5, 0]], np.float32)
    edges.flags.writeable = False  # as arrays out of an object store are
    graph.set_adjacency(edges)
    assert graph.adjacency is buffer
    assert torch.equal(buffer, torch.tensor([[0, 0.25], [0.5, 0]]))


def test_edges_and_maps_that_do_not_fit_are_refused() -> None:
    graph = DisGraph(2, "gcn", NodeMap.ranked(2))
    with pytest.raises(ValueError, match=r"2 nodes, but the weights are \[3, 3\]"):
        graph.set_adjacency(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        graph.set_adjacency(np.array([[0, 1.5], [0, 0]]))
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        graph.set_adjacency(np.array([[0, np.nan], [0, 0]]))
    with pytest.raises(ValueError, match="2 nodes, but the map names 3"):
        graph.set_nodes(NodeMap.ranked(3))
    with pytest.raises(ValueError, match="one attribute only"):
        graph.set_nodes(NodeMap((1, 1), (1, 1)))


def test_a_graph_without_attributes_passes_codes_through() -> None:
    graph = DisGraph(0, "gcn", NodeMap.ranked(0))
    codes = torch.randn(2, 3)
    assert torch.equal(graph(codes), codes)
    assert not list(graph.parameters())
