"""Sprites and solids: every factor to be seen, correlated as asked for, independent when measured."""

import numpy as np
import pytest

from graphdrl.images import load_source, prepare, solids, sprites
from graphdrl.images.ids import image_ids
from graphdrl.relations import true_relations

RENDERERS = {"sprites": sprites, "solids": solids}


@pytest.fixture(params=RENDERERS)
def name(request):
    return request.param


def correlation(source, first, second, **options):
    drawn = source.sample(20_000, 0) if not options else source.draw(600, 16, 0, **options).factors
    columns = [source.factor_names.index(factor) for factor in (first, second)]
    return np.corrcoef(drawn[:, columns].T)[0, 1]


def test_a_picture_depends_on_its_factors_alone(name):
    grid, render = RENDERERS[name].GRID, RENDERERS[name].render
    factors = grid.values(grid.draw(5, 0))
    images = render(factors, 64)
    assert images.shape == (5, 64, 64, 3)
    np.testing.assert_array_equal(render(factors[3:], 64), images[3:])
    assert render(factors, 32).shape == (5, 32, 32, 3)


def test_every_level_of_every_factor_is_seen(name):
    grid, render = RENDERERS[name].GRID, RENDERERS[name].render
    for image in grid.values(grid.draw(2, 1)):
        for column, levels in enumerate(grid.shape):
            ladder = np.tile(image, (levels, 1))
            ladder[:, column] = np.linspace(0, 1, levels)
            changes = np.abs(np.diff(render(ladder, 64).astype(int), axis=0)).max(axis=-1)
            assert ((changes > 12).sum(axis=(1, 2)) >= 8).all(), grid.names[column]


def test_sprites_are_white_on_black_within_the_picture_and_antialiased():
    grid = sprites.GRID
    corners = [values for values in grid.values(grid.draw(4_000, 2)) if values[1] == 1 and {*values[3:]} <= {0, 1}]
    images = sprites.render(np.array(corners), 64)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    assert images[:, [0, -1]].max() == images[:, :, [0, -1]].max() == 0
    assert images.max() == 255
    assert len(np.unique(images)) > 10


def test_no_part_of_a_solid_lies_outside_the_ball_that_is_traced():
    eye, rays = solids._camera(0.1, 96)
    with np.errstate(all="ignore"):
        near = solids._may_hit(eye, rays, 0.5)
        for solid in solids._SOLIDS:
            hit = np.isfinite(solid(eye, rays, 0.5)[0])
            assert hit.any()
            assert not (hit & ~near).any()


def test_solids_take_the_hues_that_they_are_given():
    image = solids.render(np.array([[0, 1 / 3, 2 / 3, 1, 2 / 3, 0.5]], np.float32), 64)[0]
    floor, wall, solid = image[60, 5], image[3, 50], image[30, 32]
    assert floor.argmax() == 0  # red
    assert wall.argmax() == 1  # hue .3 of the circle
    assert solid.argmax() == 2  # hue .6


def test_a_set_carries_factors_and_the_grades_of_its_attributes(name):
    source = load_source(name)
    drawn = source.draw(30, 16, 4)
    assert not source.graded
    assert drawn.attributes == source.attributes
    assert drawn.factor_names == source.factor_names == RENDERERS[name].GRID.names
    np.testing.assert_array_equal(drawn.factors, source.sample(30, 4))
    columns = [drawn.factor_names.index(attribute) for attribute in drawn.attributes]
    np.testing.assert_array_equal(drawn.grades, drawn.factors[:, columns])
    np.testing.assert_array_equal(drawn.images, RENDERERS[name].render(drawn.factors, 16))
    assert drawn.ids == image_ids(drawn.images) == source.draw(30, 16, 4).ids


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        ({"correlation": "single"}, [("floor_hue", "wall_hue")]),
        ({"correlation": "double"}, [("floor_hue", "wall_hue"), ("scale", "shape")]),
        ({"correlation": "confounder"}, [("wall_hue", "scale"), ("wall_hue", "orientation")]),
        ({"correlation": "single", "correlated": ("scale", "object_hue")}, [("scale", "object_hue")]),
    ],
)
def test_solids_are_correlated_as_asked_for_and_independent_when_measured(options, pairs):
    source = load_source("solids", **options)
    for pair in pairs:
        assert correlation(source, *pair) > 0.7
        assert abs(correlation(source, *pair, independent=True)) < 0.15
    assert abs(correlation(source, "object_hue", "orientation")) < 0.03 or options["correlation"] == "confounder"


def test_a_smaller_sigma_correlates_more():
    strong, weak = (load_source("sprites", correlation="single", sigma=sigma) for sigma in (0.1, 0.4))
    assert correlation(strong, "x", "y") > correlation(weak, "x", "y") + 0.2 > 0.4


def test_true_relations_are_those_of_a_large_sample():
    source = load_source("sprites", correlation="single")
    columns = [source.factor_names.index(attribute) for attribute in source.attributes]
    truth = true_relations(5 * source.sample(50_000, 0)[:, columns])
    assert truth[1, 2] > 0.7  # x tells of y
    assert np.abs(truth[0, 1:]).max() < 0.02  # scale of neither


def test_prepared_images_come_back_with_their_factors(tmp_path):
    parameters = {"correlation": "confounder"}
    drawn = prepare("solids", parameters, 12, 16, 5, tmp_path)
    np.testing.assert_array_equal(drawn.factors, load_source("solids", **parameters).draw(12, 16, 5).factors)
    np.testing.assert_array_equal(drawn.images, load_source("solids", **parameters).draw(12, 16, 5).images)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("solids", {"correlation": "single", "correlated": ("wall", "scale")}, "did you mean 'wall_hue'"),
        ("solids", {"correlation": "single", "correlated": ("scale", "scale")}, "'scale' is named twice"),
        ("solids", {"sigma": 0.2}, "sigma is the width of a correlation, and correlation is none"),
        ("mpi3d", {}, "read from its published file: give data.path=FILE"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(source, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_source(source, **options)
    assert "\n" not in str(caught.value)


def test_all_images_of_a_grid_cannot_be_asked_for(name):
    with pytest.raises(ValueError, match="say how many"):
        load_source(name).draw(None, 16, 0)
