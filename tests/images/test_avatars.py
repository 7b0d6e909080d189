"""Avatars: what is drawn is what the grades say, balanced where it should be, related where it should be."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kendalltau, somersd

from graphdrl.images.avatars import (
    ATTRIBUTES,
    HELD_OUT_STYLES,
    LEAVE_OUT,
    STYLES,
    TRAINING_STYLES,
    PortraitNet,
    settle,
    to_levels,
)
from graphdrl.images.sources import avatars, load_source

EXCLUSIVE = {"hat", "bald", "long_hair", "bangs"}
"""Attributes of one part: what is on top of the head."""


@pytest.fixture(params=STYLES)
def style(request):
    return STYLES[request.param]


def test_styles_are_split_into_training_and_held_out():
    assert sorted(TRAINING_STYLES + HELD_OUT_STYLES) == sorted(STYLES)


def test_our_options_pass_the_packages_own_check(style):
    """The schema check that `render` leaves out, once for every variant and colour in use."""
    from dicebear import Avatar

    definition = avatars._definition(style.file)
    used = {part: [v for one in looks for v in one.variants] for part, looks in style.parts.items()} | {
        name: list(values) for name, values in style.nuisances.items()
    }
    known = definition.components()
    for name, values in used.items():
        if not name.endswith("Color"):
            assert set(values) - {LEAVE_OUT} <= set(known[name].variants()), name
    colours = {colour for names, _ in style.tones.values() for colour in names}
    assert colours <= set(definition.colors())
    options = avatars._pose(style, np.full(4, 0.3)) | avatars._tones(style, np.zeros(len(style.attributes)))
    for name, values in used.items():
        options |= avatars._variants([name], [values], np.array([0.5]))
    assert Avatar(definition, options).to_string() == avatars._drawer(style.file)(options)


def test_every_component_with_variants_is_either_graded_or_a_named_nuisance(style):
    single = {name for name, part in avatars._definition(style.file).components().items() if len(part.variants()) == 1}
    named = set(style.parts) | set(style.nuisances)
    unnamed = set(avatars._definition(style.file).components()) - named - single
    assert unnamed <= {"clothesGraphic"}, "left to the package's own dice"  # drawn on graphic shirts only


def test_same_seed_same_avatars_and_more_of_them_begin_alike():
    many = avatars.draw(6, 32, seed=3, style="open-peeps")
    for num in (1, 2, 4):
        few = avatars.draw(num, 32, seed=3, style="open-peeps")
        np.testing.assert_array_equal(few.images, many.images[:num])
        np.testing.assert_array_equal(few.grades, many.grades[:num])
    assert avatars.draw(6, 32, seed=4, style="open-peeps").ids != many.ids


def test_set_carries_attributes_grades_and_nuisances(style):
    drawn = avatars.draw(5, 24, seed=1, independent=True, style=style.file)
    assert drawn.images.shape == (5, 24, 24, 3)
    assert drawn.images.dtype == np.uint8
    assert drawn.grades.shape == (5, len(style.attributes))
    assert drawn.factors.shape == (5, len(drawn.factor_names))
    assert drawn.attributes == style.attributes
    assert drawn.relations == PortraitNet(style).edges
    assert set(style.attributes) <= set(ATTRIBUTES)
    np.testing.assert_array_equal(drawn.factors[:, : len(style.attributes)], drawn.grades)


@pytest.mark.parametrize("independent", [False, True])
def test_drawn_grades_are_whole_fifths_that_the_style_can_show(style, independent):
    network = PortraitNet(style)
    grades = network.sample_independent(2_000, 5) if independent else network.sample(2_000, 5)
    np.testing.assert_allclose(grades * 5, np.round(grades * 5), atol=1e-5)
    np.testing.assert_array_equal(settle(style, grades)[0], grades)
    for name, column in zip(style.attributes, grades.T, strict=True):
        np.testing.assert_allclose(np.unique(column), style.levels(name), atol=1e-6)


def test_parts_that_exclude_each_other_are_graded_by_what_is_seen(style):
    column = dict(zip(style.attributes, PortraitNet(style).sample_independent(5_000, 6).T, strict=True))
    top = column["bald"] + column.get("hat", 0) > 0
    assert (column["bald"] * column.get("hat", 0) == 0).all()
    assert (column["long_hair"][top] == 0).all()
    if style.file == "avataaars":
        assert (column["blond"][(column["hat"] > 0) & (column["beard"] == 0)] == 0).all()
        assert (column["blond"][(column["hat"] > 0) & (column["beard"] > 0)] > 0).any()


def test_independent_grades_are_balanced_and_independent_where_parts_allow(style):
    grades = PortraitNet(style).sample_independent(20_000, 7)
    for k, name in enumerate(style.attributes):
        shares = np.unique(grades[:, k], return_counts=True)[1] / len(grades)
        assert shares.min() >= 0.12, name
        for j, other in enumerate(style.attributes[:k]):
            bound = {name, other} <= EXCLUSIVE or (name == "blond" and other in EXCLUSIVE | {"beard"})
            if not bound:
                assert abs(kendalltau(grades[:4_000, k], grades[:4_000, j])[0]) < 0.05, (name, other)


def test_relations_of_the_network_are_there_and_asymmetric():
    grades = dict(zip(STYLES["avataaars"].attributes, PortraitNet(STYLES["avataaars"]).sample(5_000, 8).T, strict=True))
    from_bald = somersd(grades["bald"], grades["beard"]).statistic
    from_beard = somersd(grades["beard"], grades["bald"]).statistic
    assert from_bald > from_beard + 0.15 > 0.3
    assert somersd(grades["dark_clothes"], grades["smile"]).statistic < -0.25


@pytest.mark.parametrize("name", TRAINING_STYLES)
def test_each_grade_of_each_attribute_changes_the_picture(name):
    style = STYLES[name]
    for k, attribute in enumerate(style.attributes):
        levels = style.levels(attribute)
        wanted = np.zeros((len(levels), len(style.attributes)), np.float32)
        wanted[:, k] = levels
        if attribute == "bangs":
            wanted[:, style.attributes.index("long_hair")] = 1
        images = avatars.render(style, wanted, np.full((len(levels), 4), 0.5, np.float32), 64, 0).astype(int)
        for lower, upper in pairwise(images):
            assert (np.abs(lower - upper).max(-1) > 40).sum() >= 12, attribute


def test_values_are_shared_out_evenly_among_levels():
    levels = np.array([0.0, 0.6, 1.0])
    np.testing.assert_allclose(to_levels(np.array([0.0, 0.2, 0.99]), levels, can_be_absent=True), [0, 0.6, 1])
    np.testing.assert_allclose(to_levels(np.array([0.1, 0.5, 0.9]), levels, can_be_absent=False), [0, 0.6, 1])


def test_source_is_found_by_name_and_draws_its_style():
    source = load_source("avatars", style="personas")
    assert not source.graded
    drawn = source.draw(2, 16, seed=2)
    assert drawn.attributes == source.attributes
    assert drawn.factor_names == source.factor_names
    np.testing.assert_array_equal(drawn.factors, source.sample(2, seed=2))
    np.testing.assert_array_equal(drawn.images, avatars.draw(2, 16, 2, style="personas").images)


def test_drawing_without_end_is_refused():
    with pytest.raises(ValueError, match="say how many"):
        load_source("avatars").draw(None, 16, seed=0)


def test_folder_of_png_files_holds_the_drawings(tmp_path):
    paths = avatars.write_folder(tmp_path / "mine", 3, 20, seed=9, style="lorelei")
    assert sorted((tmp_path / "mine").iterdir()) == paths
    with Image.open(paths[1]) as image:
        assert image.info["Copyright"] == STYLES["lorelei"].licence
        np.testing.assert_array_equal(np.asarray(image), avatars.draw(3, 20, 9, style="lorelei").images[1])


def test_unknown_style_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'open-peeps'"):
        avatars.draw(1, 16, 0, style="open-peep")


def test_missing_packages_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    avatars._drawer.cache_clear()
    avatars._definition.cache_clear()
    with pytest.raises(ImportError, match=r"install graphdrl\[avatars\]"):
        avatars.draw(1, 16, 0)
