"""Labelled images: what their labels mean, and what is said when they cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graphdrl.images.avatars import HELD_OUT_SEED
from graphdrl.images.sources.faces import FacesParameters, FacesSource
from jobs import labelled_images
from jobs.evaluate_oracle import read_labels


def test_zeros_and_ones_alone_say_whether_an_attribute_is_there() -> None:
    for absent in ("0", "-1"):
        names, attributes, truth, labels = read_labels(f"file,hat,long_hair\na.png,1,{absent}\nb.png,{absent},\n")
        assert (names, attributes, labels) == (["a.png", "b.png"], ("hat", "long_hair"), "presence")
        np.testing.assert_array_equal(truth, [[5, 0], [0, np.nan]])


def test_any_other_number_makes_them_grades() -> None:
    _, _, truth, labels = read_labels("file,hat,age\r\na.png,1,3.5\r\n\r\nb.png,0,\r\n")
    assert labels == "grades"
    np.testing.assert_array_equal(truth, [[1, 3.5], [0, np.nan]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a first line"),
        ("file\na.png\n", "needs a first line"),
        ("file,hat\n", "a line for each image"),
        ("file,hat\na.png,6\n", r"grades 0\.\.5"),
        ("file,hat\na.png,-1\nb.png,3\n", r"grades 0\.\.5"),
        ("file,hat\na.png,inf\n", r"grades 0\.\.5"),
        ("file,hat\na.png,yes\n", "'a.png' that is no number"),
        ("file,hat\na.png,1,1\n", "2 labels for 'a.png', its first line has 1"),
        ("file,hat\na.png,1\na.png,0\n", "two lines for 'a.png'"),
        ("file,hat,hat\na.png,1,1\n", "each once"),
        ("file,{attribute}\na.png,1\n", "cannot be an attribute"),
        ("file,hat\na.png," + "1" * 200_000 + "\n", "field larger than field limit"),
    ],
)
def test_a_table_that_is_none_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(text)


def test_a_folder_gives_the_images_that_have_a_line(tmp_path: Path) -> None:
    for row in range(6):
        Image.fromarray(np.full((16, 16, 3), 40 * row, np.uint8)).save(tmp_path / f"{row}.png")
    (tmp_path / "torn.png").write_bytes(b"torn")
    lines = [f"{row}.png,{row % 6}" for row in range(5)]
    outside = tmp_path.parent / "outside.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(outside)
    (tmp_path / "labels.csv").write_text(
        "\n".join(["file,hat", *lines, "torn.png,1", "gone.png,2", "../outside.png,1"])
    )
    found = labelled_images(str(tmp_path), 100, 16, seed=0)
    np.testing.assert_array_equal(np.sort(found.truth[:, 0]), range(5))
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], 40 * found.truth[:, 0])
    assert [name for name, _ in found.skipped] == ["torn.png"]
    assert len(labelled_images(str(tmp_path), 2, 16, seed=0).images) <= 2


def test_labels_that_are_not_wanted_are_left_out() -> None:
    found = labelled_images("faces", 3, 32, seed=0)
    some = found.only(("hat", "long_hair", "bald"))
    assert some.attributes == ("hat", "bald")
    np.testing.assert_array_equal(some.truth[:, 1], found.truth[:, found.attributes.index("bald")])


def test_built_in_sets_are_draws_that_nothing_learnt_from() -> None:
    found = labelled_images("faces", 4, 32, seed=3)
    drawn = FacesSource(FacesParameters(presence=0.7)).draw(4, 32, HELD_OUT_SEED + 3, independent=True)
    np.testing.assert_array_equal(found.images, drawn.images)
    np.testing.assert_allclose(found.truth, 5 * drawn.grades)
    assert found.labels == "continuum"
    assert labelled_images("avatars:lorelei", 2, 32, seed=0).labels == "grades"
    assert labelled_images("photographs", 2, 32, seed=0).attributes == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("avatars:lorely", "no style of avatars 'lorely'"),
        ("faces:old", "faces have no styles"),
        ("nowhere", "there is no folder 'nowhere'"),
    ],
)
def test_a_set_that_is_not_there_is_named(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labelled_images(spec, 4, 32, seed=0)


def test_a_folder_without_labels_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no labels.csv: write one, 'file,ATTRIBUTE"):
        labelled_images(str(tmp_path), 4, 32, seed=0)
    (tmp_path / "labels.csv").write_bytes(b"file,hat\n\xff.png,1\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        labelled_images(str(tmp_path), 4, 32, seed=0)
    (tmp_path / "labels.csv").write_text("file,hat\ngone.png,1\n")
    with pytest.raises(ValueError, match="none of the 1 files"):
        labelled_images(str(tmp_path), 4, 32, seed=0)
