"""The published files of factor grids, in their own layouts but smaller: wanted images alone are read."""

import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from graphdrl.config import ConfigError, load_config
from graphdrl.images import load_source, prepare
from graphdrl.images.grid import Grid
from graphdrl.images.grid_files import read_grid_images
from graphdrl.images.sources.mpi3d import Mpi3dSource
from graphdrl.images.sources.solids import SolidsSource
from graphdrl.images.sources.sprites import SpritesSource

SMALL = {
    SpritesSource: Grid({"shape": 3, "scale": 2, "orientation": 2, "x": 2, "y": 4}),
    SolidsSource: Grid({"floor_hue": 2, "wall_hue": 2, "object_hue": 2, "scale": 2, "shape": 4, "orientation": 3}),
    Mpi3dSource: Grid(dict(zip(Mpi3dSource.grid.names, (2, 2, 2, 3, 3, 2, 2), strict=True))),
}


def pixels(source, seed=0):
    layout = source.layout
    shape = (SMALL[source].num, *layout.shape)
    return np.random.default_rng(seed).integers(0, layout.brightest + 1, shape, np.uint8)


def write(source, path, images=None, labels=None, packed=True, chunks=True):
    """A file as it is published: dSprites packed with a constant colour before its factors, MPI3D as stored arrays."""
    grid = SMALL[source]
    images = pixels(source) if images is None else images
    labels = grid.levels(np.arange(grid.num)) if labels is None else labels
    if source is SolidsSource:
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=images, chunks=(5, *images.shape[1:]) if chunks else None)
            file["labels"] = labels * 0.1 - 30
    elif source is SpritesSource:
        save = np.savez_compressed if packed else np.savez
        metadata = np.array({"title": "an object that only pickle could read"}, dtype=object)
        classes = np.concatenate([np.zeros((len(labels), 1), np.int64), labels], axis=1)
        save(path, metadata=metadata, imgs=images, latents_classes=classes)
    else:
        np.savez(path, images=images)
    return path


@pytest.fixture(params=SMALL)
def source(request, monkeypatch):
    monkeypatch.setattr(request.param, "grid", SMALL[request.param])
    return request.param


def name_of(source):
    return "file.h5" if source is SolidsSource else "file.npz"


def test_the_images_are_those_of_the_drawn_factors(source, tmp_path):
    path = write(source, tmp_path / name_of(source))
    drawn = load_source(source.name, path=path, correlation="single").draw(50, 64, 1)
    rows = np.ravel_multi_index(
        np.round(drawn.factors * (np.array(source.grid.shape) - 1)).astype(int).T, source.grid.shape
    )
    expected = pixels(source)[rows] * (255 // source.layout.brightest)
    if expected.ndim == 3:
        expected = np.repeat(expected[..., None], 3, axis=-1)
    np.testing.assert_array_equal(drawn.images, expected)
    assert len(np.unique(rows)) > 10
    assert load_source(source.name, path=path).draw(2, 32, 1).images.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("options", [{"packed": False}, {"packed": True}])
def test_stored_and_packed_arrays_hold_the_same(tmp_path, options):
    path = write(SpritesSource, tmp_path / "file.npz", **options)
    rows = np.array([0, 1, 17, 95])
    read = read_grid_images(path, rows, SMALL[SpritesSource], SpritesSource.layout)
    np.testing.assert_array_equal(read[..., 1], 255 * pixels(SpritesSource)[rows])


def test_a_packed_array_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("graphdrl.images.grid_files._BLOCK", 7)
    path = write(SpritesSource, tmp_path / "file.npz")
    rows = np.array([3, 6, 7, 41, 90, 95])
    read = read_grid_images(path, rows, SMALL[SpritesSource], SpritesSource.layout)
    np.testing.assert_array_equal(read[..., 0], 255 * pixels(SpritesSource)[rows])


def test_hdf5_without_chunks_is_read_too(tmp_path):
    path = write(SolidsSource, tmp_path / "file.h5", chunks=False)
    rows = np.array([5, 100, 191])
    read = read_grid_images(path, rows, SMALL[SolidsSource], SolidsSource.layout)
    np.testing.assert_array_equal(read, pixels(SolidsSource)[rows])


def test_a_changed_file_is_prepared_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(Mpi3dSource, "grid", SMALL[Mpi3dSource])
    path = write(Mpi3dSource, tmp_path / "file.npz")
    first = prepare("mpi3d", {"path": path}, 10, 64, 0, tmp_path / "cache")
    write(Mpi3dSource, path, images=pixels(Mpi3dSource, seed=1))
    assert prepare("mpi3d", {"path": path}, 10, 64, 0, tmp_path / "cache").ids != first.ids


def damaged(source, path):
    content = bytearray(write(source, path).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)


WRONG = {
    "another size": (lambda source, path: write(source, path, images=pixels(source)[:, :32]), "and the grid of"),
    "fewer images": (lambda source, path: write(source, path, images=pixels(source)[:-1]), "and the grid of"),
    "other arrays": (lambda source, path: np.savez(path, pictures=pixels(source)), "has no array"),
    "no such file": (lambda source, path: None, "there is no file"),
    "neither format": (lambda source, path: path.write_text("no images"), "cannot be read as"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_one_sentence_that_names_it(source, tmp_path, wrong):
    path = tmp_path / name_of(source)
    make, message = WRONG[wrong]
    if wrong == "other arrays":
        path = tmp_path / "other.npz"
    make(source, path)
    with pytest.raises(ValueError, match=message) as caught:
        load_source(source.name, path=path).draw(3, 64, 0)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_packed_file_is_named(tmp_path):
    damaged(SpritesSource, tmp_path / "file.npz")
    with pytest.raises(ValueError, match=r"file\.npz' cannot be read as dSprites's file"):
        read_grid_images(tmp_path / "file.npz", np.arange(96), SMALL[SpritesSource], SpritesSource.layout)


@pytest.mark.parametrize("kind", [SpritesSource, SolidsSource])
def test_a_shuffled_file_is_refused(kind, tmp_path):
    labels = SMALL[kind].levels(np.random.default_rng(0).permutation(SMALL[kind].num))
    path = write(kind, tmp_path / name_of(kind), labels=labels)
    with pytest.raises(ValueError, match=r"are not those of the grid of .* in order"):
        read_grid_images(path, np.arange(3), SMALL[kind], kind.layout)


def test_arrays_that_need_pickle_are_refused(tmp_path):
    write(SpritesSource, tmp_path / "file.npz")
    layout = replace(SpritesSource.layout, images="metadata")
    with pytest.raises(ValueError, match="not plain rows of numbers"):
        read_grid_images(tmp_path / "file.npz", np.arange(3), SMALL[SpritesSource], layout)


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    path = write(SolidsSource, tmp_path / "file.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"install graphdrl\[hdf5\]"):
        read_grid_images(path, np.arange(3), SMALL[SolidsSource], SolidsSource.layout)


def test_a_path_belongs_to_the_source_that_reads_it(tmp_path):
    file = tmp_path / "file.npz"
    config = load_config(None, ["data.source=sprites", f"data.path={file}"])
    assert (config.data.source, config.data.num_images, config.nodes) == ("sprites", 12_000, "ranked")
    with pytest.raises(ConfigError, match=r"give data\.path=FILE"):
        load_config(None, ["data.source=mpi3d"])
    with pytest.raises(ConfigError, match="data: these images have no factor 'z'"):
        load_config(None, ["data={source: sprites, parameters: {correlation: single, correlated: [x, z]}}"])
