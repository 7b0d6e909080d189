"""The graph as geometry, the rows of tables, and how numbers are written."""

from dataclasses import replace

import numpy as np
import pytest

from graphdrl.relations.edges import Edges
from graphdrl.report.drawings import attribute_order, estimated_heat_map, network, opacity, true_heat_map
from graphdrl.report.tables import edge_row, edge_rows, median_width, pair_rows, sorted_figures, version_rows
from graphdrl.report.wording import duration, interval, signed, two_digits, written

_THIN = "\N{NARROW NO-BREAK SPACE}"


def _edges(weights: list[list[float]], resolved: list[list[bool]], half: float = 0.1) -> Edges:
    matrix = np.array(weights, np.float32)
    names = ("bald", "age", "hat", "smile")[: len(matrix)]
    symmetric = (matrix + matrix.T) / 2
    return Edges(names, matrix, matrix - half, matrix + half, np.array(resolved), symmetric, matrix, "somers_d", 100)


@pytest.fixture
def edges() -> Edges:
    """bald and age both ways, hat -> bald the other way round, age -> hat not resolved."""
    weights = [[0, 0.6, 0], [0.3, 0, 0.05], [-0.4, 0.02, 0]]
    return _edges(weights, [[False, True, False], [True, False, False], [True, False, False]])


def test_both_heat_maps_share_one_order_and_one_scale(edges):
    order = [2, 0, 1]
    estimated, true = (estimated_heat_map(edges, order), true_heat_map(edges, edges.weights, order))
    assert estimated.labels == true.labels == ("hat", "bald", "age")
    for ours, theirs in zip(estimated.cells, true.cells, strict=True):
        assert (ours.x, ours.y) == (theirs.x, theirs.y)
        if ours.kind == "weight":
            assert (ours.sign, ours.opacity, ours.text) == (theirs.sign, theirs.opacity, theirs.text)
    at = {(cell.x, cell.y): cell for cell in estimated.cells}
    assert at[1, 0].tooltip == "hat → bald: −0.40, 95 % interval −0.50 to −0.30"
    assert (at[1, 0].sign, at[1, 0].text) == ("minus", "−.40")
    assert at[0, 2].kind == "unresolved"


def test_opacity_grows_with_size_up_to_one():
    assert opacity(0.0) == 0
    assert opacity(-0.5) == opacity(0.5) == pytest.approx(0.5**0.8, abs=1e-3)
    assert opacity(1.0) == opacity(-1.2) == 1


def test_related_attributes_stand_beside_each_other():
    weights = np.zeros((4, 4))
    weights[0, 2] = weights[2, 0] = weights[1, 3] = weights[3, 1] = 0.8
    order = attribute_order(_edges(weights.tolist(), (weights != 0).tolist()))
    assert sorted(order) == [0, 1, 2, 3]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}


def test_the_network_shows_resolved_edges_and_both_directions_apart(edges):
    drawn = network(edges, [0, 1, 2])
    assert sorted(arrow.tooltip for arrow in drawn.arrows) == [
        "age → bald: +0.30",
        "bald → age: +0.60",
        "hat → bald: −0.40",
    ]
    assert len({arrow.path for arrow in drawn.arrows}) == 3
    widths = {arrow.tooltip.split(":")[0]: arrow.width for arrow in drawn.arrows}
    assert widths["bald → age"] > widths["hat → bald"] > widths["age → bald"]
    assert network(edges, [0, 1, 2], max_edges=1).num_left_out == 2


def test_all_of_a_large_network_lies_inside_its_frame():
    num = 40
    weights = np.zeros((num, num), np.float32)
    base = _edges([[0.0]], [[False]])
    names = tuple(f"attribute {i}" for i in range(num))
    edges = replace(base, attributes=names, weights=weights, resolved=weights > 0, strength=weights)
    drawn = network(edges, list(range(num)))
    assert len(drawn.dots) == num
    assert all(0 < dot.label_x < drawn.width and 0 < dot.label_y < drawn.height for dot in drawn.dots)
    # No label stands on its head.
    assert all(-91 <= (dot.rotation + 180) % 360 - 180 <= 91 for dot in drawn.dots)


@pytest.mark.parametrize(
    ("i", "j", "true", "verdict"),
    [(0, 1, 0.5, "right sign"), (0, 1, -0.5, "wrong sign"), (0, 1, 0.05, "truly near 0"), (1, 2, 0.3, "missed")],
)
def test_an_edge_is_judged_by_the_truth(edges, i, j, true, verdict):
    assert edge_row(edges, i, j, np.full((3, 3), true)).verdict == verdict


def test_rows_put_resolved_edges_first_and_the_strongest_at_the_top(edges):
    rows = [(row.source, row.target) for row in edge_rows(edges)]
    assert rows[:3] == [("bald", "age"), ("hat", "bald"), ("age", "bald")]
    assert len(rows) == 6
    first = pair_rows(edges)[0]
    assert [row.weight for row in first.directions] == ["+0.60", "+0.30"]
    assert [pair.directions[0].resolved for pair in pair_rows(edges)] == [True, True, False]


def test_an_edge_row_knows_its_place_on_the_scale(edges):
    row = edge_row(edges, 0, 1)
    assert (row.at_low, row.at, row.at_high, row.at_truth) == (75.0, 80.0, 85.0, None)


def test_versions_say_when_they_were_taken_and_how_far_they_moved(make_report):
    content = make_report(num_attributes=4)
    first, second, _ = version_rows(content.versions, ((140, 1), (420, 2)))
    assert (first.step, first.change, first.effective) == ("140", "–", "150 (60 %)")
    moved = np.abs(content.versions[1].edges.weights - content.versions[0].edges.weights)
    assert float(second.change) == pytest.approx(moved[~np.eye(4, dtype=bool)].mean(), abs=6e-4)
    assert version_rows(content.versions, ())[2].step == "–"


def test_the_median_width_is_of_the_edges_alone(edges):
    assert median_width(edges) == pytest.approx(0.2, abs=1e-3)
    assert median_width(_edges([[0.0]], [[False]])) is None


def test_figures_go_to_the_part_of_the_page_that_they_are_about():
    summary = {"seconds": 75.0, "oracle_engine": "vllm", "relations": {"spearman": 0.9}, "metrics.mig": 0.4}
    numbers = sorted_figures(summary, {"queue": 3})
    assert [figure.text for figure in numbers.ran] == ["1 min 15 s"]
    assert [figure.label for figure in numbers.oracle] == ["Oracle engine", "Queue"]
    assert [(figure.text, figure.bar) for figure in numbers.relations] == [("0.900", 90.0)]
    assert numbers.metrics[0].label == "Mutual information gap"


def test_numbers_are_written_for_readers():
    assert [signed(0.416), signed(-0.3), signed(-0.001), signed(float("nan"))] == ["+0.42", "−0.30", "+0.00", "–"]
    assert [two_digits(0.42), two_digits(-0.31), two_digits(1.0), two_digits(-0.999)] == [".42", "−.31", "1", "−1"]
    assert interval(-0.05, 0.11) == "−0.05 to +0.11"
    assert interval(float("nan"), 0.1) == "unknown"
    assert [duration(4.25), duration(391), duration(7501)] == [f"4.25{_THIN}s", "6 min 31 s", "2 h 5 min"]
    assert written(np.float32(0.5)) == "0.5"
    assert written(1_234_567) == f"1{_THIN}234{_THIN}567"
    assert written(0.9123, "share") == f"91.2{_THIN}%"
    assert [written(True), written(None), written(["a", 1]), written("x")] == ["yes", "–", "a, 1", "x"]
