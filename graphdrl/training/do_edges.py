"""Asks an oracle what a model does when its nodes are moved; `graphdrl.relations` makes `do` edges of the answers.

It costs 2 x 2 x B x K^2 grades, of which those that the store knows are free.
"""

import numpy as np

from graphdrl.images import to_uint8
from graphdrl.models import GEM
from graphdrl.oracle.protocol import Oracle
from graphdrl.relations import DoEdges, estimate_do
from graphdrl.training.naming import graded_along

DEVIATIONS = 2.0
"""How far a node is moved up and down, in standard deviations of the aggregate code."""


def measure_do_edges(
    model: GEM,
    oracle: Oracle,
    images: np.ndarray,
    *,
    deviations: float = DEVIATIONS,
    seed: int = 0,
    client: str = "",
    oracle_model: str = "",
) -> tuple[DoEdges, DoEdges]:
    """Move every node of B images uint8 [B, S, S, 3] and let the oracle grade all attributes of what is decoded.

    Returns the effects of nodes that are moved alone, and of nodes that take their neighbours along. Where no node
    shows an attribute, its row is NaN. The model must be calibrated (`model.calibrate`): until then units are those
    of the prior. Waits for the answers; a busy oracle is asked again.
    oracle_model: whose grades these are, for the record. Raises OracleError when the oracle fails, ValueError for a
    model with fewer than two nodes and for too few images.
    """
    attributes = model.config.attributes
    nodes = [name for name in attributes if name in model.nodes]
    if len(nodes) < 2:
        raise ValueError(
            f"do edges lead from node to node, and this model has {len(nodes)}: train one with two attributes or more"
        )
    both = []
    for propagate in (False, True):
        strips = moved(model, images, nodes, deviations, propagate)
        grades = np.full((len(attributes), *strips.shape[1:3], len(attributes)), np.nan, np.float32)
        shown = [attributes.index(name) for name in nodes]
        grades[shown] = graded_along(oracle, strips, attributes, client, "do")
        both.append(
            estimate_do(attributes, grades, deviations=deviations, propagate=propagate, seed=seed, oracle=oracle_model)
        )
    return both[0], both[1]


def moved(model: GEM, images: np.ndarray, nodes: list[str], deviations: float, propagate: bool) -> np.ndarray:
    """Images with each node moved down and up by so many standard deviations: uint8 [nodes, 2, B, S, S, 3]."""
    ends = (-deviations, deviations)
    return np.stack(
        [np.stack([to_uint8(model.edit(images, {node: end}, propagate)) for end in ends]) for node in nodes]
    )
