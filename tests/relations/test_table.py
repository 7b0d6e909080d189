"""All that is known of a pair of attributes, row by row."""

from dataclasses import replace

import numpy as np
import pytest

from graphdrl.oracle.questions import RelateAnswer
from graphdrl.relations import DoEdges, Edges, Relation
from graphdrl.relations.wire import EdgesBody

NAMES = ("bald", "age", "hat")


def matrix(*entries: float) -> np.ndarray:
    """[3, 3] with these values off the diagonal, row by row."""
    values = np.zeros((3, 3), np.float32)
    values[~np.eye(3, dtype=bool)] = entries
    return values


@pytest.fixture
def edges() -> Edges:
    weights = matrix(0.5, 0.4, 0.25, 0.1, 0.3, 0.05)
    resolved = matrix(1, 1, 1, 0, 1, 0).astype(bool)
    partial = matrix(0.4, 0.3, 0.2, 0, 0.3, 0)
    return Edges(NAMES, weights, weights - 0.125, weights + 0.125, resolved, weights, partial, "somers_d", 700)


def test_a_row_has_both_directions_of_a_pair(edges: Edges) -> None:
    table = edges.table()
    assert [(row.first, row.second) for row in table[::2]] == [("bald", "age"), ("bald", "hat"), ("age", "hat")]
    assert [row.source for row in table[:2]] == ["data", "partial"]
    assert table[0] == Relation("bald", "age", "data", "somers_d", 0.5, 0.375, 0.625, True, 0.25, 0.125, 0.375, True)
    last = table[4]
    assert (last.resolved, last.reverse_resolved) == (False, False)
    assert (last.weight, last.reverse_weight) == (pytest.approx(0.1), pytest.approx(0.05))


def test_what_has_no_interval_has_none(edges: Edges) -> None:
    """As of a model that was saved before partial weights had intervals."""
    partial = edges.table()[1]
    assert (partial.low, partial.high, partial.resolved, partial.reverse_resolved) == (None, None, None, None)
    assert partial.weight == pytest.approx(0.4)


def test_partial_weights_have_intervals_of_their_own(edges: Edges) -> None:
    measured = replace(
        edges, partial_low=edges.partial - 0.25, partial_high=edges.partial + 0.25, partial_resolved=edges.partial > 0.3
    )
    partial = measured.table()[1]
    assert partial[4:8] == tuple(pytest.approx(value) for value in (0.4, 0.15, 0.65, True))
    assert partial.reverse_resolved is False


def test_beliefs_and_do_edges_stand_beside_what_was_measured(edges: Edges) -> None:
    effects = matrix(0.8, 0.6, np.nan, np.nan, 0.2, 0.0)
    moved = matrix(1, 0, 0, 0, 1, 0).astype(bool)
    alone, carried = (DoEdges(NAMES, effects, effects, effects, moved, way, 2.0, 32, "m") for way in (False, True))
    sign = matrix(1, 1, 1, 1, -1, np.nan)
    beliefs = RelateAnswer(NAMES, np.full((3, 3), 5, np.float32), sign, sign, "a-model", "p1", 12)
    rows = replace(edges, do=(alone, carried), beliefs=beliefs).table()
    of_pair = rows[:5]
    assert [(row.source, row.measure) for row in of_pair] == [
        ("data", "somers_d"),
        ("partial", "partial"),
        ("belief", "a-model"),
        ("do", "alone"),
        ("do", "propagated"),
    ]
    assert of_pair[3][4:8] == (pytest.approx(0.8), pytest.approx(0.8), pytest.approx(0.8), True)
    assert of_pair[3][8:] == (None, None, None, None)  # no node shows age, so it cannot be moved
    assert (rows[12].source, rows[12].weight, rows[12].reverse_weight) == ("belief", 1.0, None)  # one way was not read
    assert len(rows) == 15
    assert all(value is None or type(value) in (str, float, bool) for row in rows for value in row)


def test_intervals_of_partial_weights_go_over_the_wire_where_there_are_any(edges: Edges) -> None:
    assert EdgesBody.of(edges).edges().table() == edges.table()
    bounds = {"partial_low": edges.low, "partial_high": edges.high, "partial_resolved": edges.resolved}
    measured = replace(edges, **bounds)
    sent = EdgesBody.model_validate_json(EdgesBody.of(measured).model_dump_json())
    assert sent.edges().table() == measured.table()
    assert sent.edges().partial_resolved.dtype == bool
