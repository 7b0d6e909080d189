"""The renderer: the same face for the same factors, and every grade of every attribute to be seen."""

import numpy as np
import pytest

from graphdrl.images import load_source
from graphdrl.images.faces import ATTRIBUTES, NETWORK, NUISANCES, render

COLUMN = {name: column for column, name in enumerate(NETWORK.nodes)}


def ladder(name, face, steps=6):
    """One face with one factor at 0, 1/5 ... 1: factors [steps, F]."""
    factors = np.tile(face, (steps, 1))
    factors[:, COLUMN[name]] = np.linspace(0, 1, steps)
    return factors


def difference(first, second):
    return np.abs(first.astype(int) - second.astype(int)).mean()


def test_a_face_depends_on_its_factors_alone():
    factors = NETWORK.sample(6, 0)
    np.testing.assert_array_equal(render(factors, 64), render(factors, 64))
    np.testing.assert_array_equal(render(factors, 64)[3], render(factors[3:4], 64)[0])
    assert render(factors, 48).shape == (6, 48, 48, 3)


@pytest.mark.parametrize("name", ATTRIBUTES + NUISANCES)
def test_every_grade_shows_and_further_grades_look_further_apart(name):
    for face in NETWORK.sample_independent(12, 7):
        images = render(ladder(name, face), 64)
        steps = [difference(images[grade], images[grade + 1]) for grade in range(5)]
        assert min(steps) > 0.07
        if name != "background":  # a hue goes round: its ends meet
            assert difference(images[0], images[5]) > 2 * np.mean(steps)


@pytest.mark.parametrize("name", ["bald", "bangs", "blond"])
def test_the_largest_hat_hides_no_hair(name):
    for face in NETWORK.sample_independent(6, 8):
        bare, covered = ladder(name, face, 2), ladder(name, face, 2)
        bare[:, COLUMN["hat"]], covered[:, COLUMN["hat"]] = 0, 1
        seen = [difference(*render(pair, 64)) for pair in (bare, covered)]
        assert seen[1] > 0.25 * seen[0]


@pytest.mark.parametrize("name", ["bangs", "blond"])
def test_a_bald_head_still_shows_its_hair(name):
    for face in NETWORK.sample_independent(6, 9):
        face[COLUMN["bald"]] = 1
        assert difference(*render(ladder(name, face, 2), 64)) > 0.6


def test_edges_are_antialiased():
    colours = np.unique(render(NETWORK.sample(1, 0), 64)[0].reshape(-1, 3), axis=0)
    assert len(colours) > 100


def test_factors_of_another_shape_and_tiny_sizes_are_refused():
    with pytest.raises(ValueError, match=r"faces need factors \[N, 14\]"):
        render(np.zeros((2, 3), np.float32), 64)
    with pytest.raises(ValueError, match="ask for 16 or more"):
        render(NETWORK.sample(1, 0), 8)


def test_the_source_hands_out_images_with_their_truth():
    source = load_source("faces")
    drawn = source.draw(40, 32, 1)
    assert source.graded
    assert drawn.attributes == source.attributes == ATTRIBUTES
    np.testing.assert_array_equal(drawn.grades, drawn.factors[:, : len(ATTRIBUTES)])
    np.testing.assert_array_equal(drawn.images, render(drawn.factors, 32))
    assert len(set(drawn.ids)) == 40
    assert drawn.ids == source.draw(40, 32, 1).ids
    assert drawn.relations == NETWORK.edges
    assert drawn.factor_names == source.factor_names
    np.testing.assert_array_equal(drawn.factors, source.sample(40, 1))


def test_the_source_draws_rare_attributes_more_often_when_told():
    drawn = load_source("faces", presence=0.9).draw(300, 16, 1, independent=True)
    assert np.mean(drawn.grades[:, ATTRIBUTES.index("bald")] > 0) > 0.8


def test_sources_are_found_by_name_and_their_parameters_are_closed():
    with pytest.raises(ValueError, match="did you mean 'faces'"):
        load_source("face")
    with pytest.raises(ValueError, match="precense"):
        load_source("faces", precense=0.5)
    with pytest.raises(ValueError, match="say how many"):
        load_source("faces").draw(None, 64, 0)
