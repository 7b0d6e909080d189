"""Shards: what is written comes back, and what went wrong is said by name."""

import json
import resource

import numpy as np
import pytest

from graphdrl.images import ImageSet, image_ids, load_source
from graphdrl.images.faces import NETWORK
from graphdrl.images.shards import DiskFull, read_manifest, read_relations, read_shards, write_shards


@pytest.fixture(scope="module")
def faces():
    return load_source("faces").draw(50, 16, 2)


@pytest.fixture
def noise():
    """Images that do not compress: 30 of 12 KiB."""
    images = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    return ImageSet(images, image_ids(images))


@pytest.fixture
def largest_file():
    """Sets how many bytes a file may have, as a full disk would, until the test is over."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_image_set_comes_back_as_it_was(faces, tmp_path):
    manifest = write_shards(faces, tmp_path / "data", 20, source="faces", seed=2)
    assert [shard.rows for shard in manifest.shards] == [20, 20, 10]
    assert manifest == read_manifest(tmp_path / "data")
    assert manifest.complete
    back = read_shards(tmp_path / "data")
    np.testing.assert_array_equal(back.images, faces.images)
    np.testing.assert_array_equal(back.grades, faces.grades)
    np.testing.assert_array_equal(back.factors, faces.factors)
    assert (back.ids, back.attributes, back.factor_names) == (faces.ids, faces.attributes, faces.factor_names)
    assert back.ids == image_ids(back.images)


def test_the_relations_lie_beside_the_images(faces, tmp_path):
    write_shards(faces, tmp_path, source="faces")
    assert read_relations(tmp_path) == NETWORK.edges
    assert read_shards(tmp_path).relations == NETWORK.edges


def test_images_of_which_nothing_is_known_come_back_alone(noise, tmp_path):
    skipped = (("broken.png", "is empty"),)
    write_shards(ImageSet(noise.images, noise.ids, attributes=("hat",), skipped=skipped), tmp_path)
    back = read_shards(tmp_path)
    assert (back.attributes, back.grades, back.factors, back.relations) == (("hat",), None, None, ())
    assert back.skipped == skipped
    assert read_relations(tmp_path) == ()


def test_nothing_but_whole_files_is_left(faces, tmp_path):
    write_shards(faces, tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest.json",
        "relations.parquet",
        "shard-00000.parquet",
        "shard-00001.parquet",
    }


def test_a_folder_that_holds_shards_is_not_written_over(faces, tmp_path):
    write_shards(faces, tmp_path)
    with pytest.raises(ValueError, match="holds shards already"):
        write_shards(faces, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_a_damaged_shard_is_named(noise, tmp_path, damage):
    write_shards(noise, tmp_path, 10)
    shard = tmp_path / "shard-00001.parquet"
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(b"")
    with pytest.raises(ValueError, match=r"shard-00001\.parquet' is missing or damaged"):
        read_shards(tmp_path)


def test_a_shard_of_other_images_is_refused(faces, noise, tmp_path):
    write_shards(noise, tmp_path / "noise", 10)
    write_shards(faces, tmp_path / "faces", 10)
    (tmp_path / "faces" / "shard-00000.parquet").replace(tmp_path / "noise" / "shard-00000.parquet")
    with pytest.raises(ValueError, match="rows or columns are not those"):
        read_shards(tmp_path / "noise")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "reads format 1"),
        ({"size": -1}, "is damaged"),
        ({"shards": [{"file": "../elsewhere.parquet", "rows": 1}]}, "is damaged"),
        ({"surprise": 1}, "is damaged"),
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(noise, tmp_path, change, message):
    write_shards(noise, tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_shards(tmp_path)


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        read_shards(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_what_was_complete(noise, tmp_path, largest_file):
    uneven = noise.images.copy()
    uneven[:20] = 0  # the first two shards compress to nothing, the third does not fit
    images = ImageSet(uneven, tuple(str(row) for row in range(30)))
    largest_file(60_000)
    with pytest.raises(DiskFull, match=r"no room for shard-00002\.parquet in .* more are needed; free some space"):
        write_shards(images, tmp_path, 10)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    with pytest.raises(ValueError, match="holds 20 of 30 images"):
        read_shards(tmp_path)
    np.testing.assert_array_equal(read_shards(tmp_path, allow_partial=True).images, uneven[:20])
