"""Charts and pictures as data URIs."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from graphdrl.report.figures import curve, edge_history, tiles


def _svg(uri: str) -> str:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    svg = base64.b64decode(content).decode()
    ElementTree.fromstring(svg)
    return svg


def _png(uri: str) -> np.ndarray:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_a_curve_marks_every_switch_of_the_relations():
    svg = _svg(curve(range(100), np.linspace(5, 1, 100), switches=((20, 1), (60, 2))))
    assert ">v1<" in svg
    assert ">v2<" in svg
    assert "prefers-color-scheme" in svg
    assert "#010203" not in svg


def test_a_curve_without_finite_values_is_still_a_picture():
    for values in ([], [float("nan")], [1.0], [float("inf"), 2.0]):
        _svg(curve(range(len(values)), values))


def test_a_curve_that_is_not_finite_somewhere_is_drawn_elsewhere():
    values = np.linspace(1, 2, 10)
    holes = values.copy()
    holes[4] = np.nan
    kept = np.delete(np.arange(10), 4)
    assert curve(range(10), holes) == curve(kept, values[kept])


def test_a_spike_in_a_long_curve_is_not_lost():
    flat, spiked = np.ones(5000), np.ones(5000)
    spiked[2345] = 9.0
    ticks = [[float(tick) for tick in re.findall(r">([\d.]+)<", _svg(curve(range(5000), y)))] for y in (flat, spiked)]
    assert max(ticks[0]) < 5 < max(ticks[1])


def test_large_steps_are_written_short():
    svg = _svg(curve([0, 20_000, 40_000], [1.0, 2.0, 3.0]))
    assert ">40k<" in svg


def test_charts_are_the_same_bytes_every_time():
    assert curve(range(50), np.arange(50), ((3, 1),)) == curve(range(50), np.arange(50), ((3, 1),))


def test_an_edge_without_an_estimate_has_a_history_too(make_report):
    versions = make_report(num_attributes=3).versions
    unknown = np.full((3, 3), np.nan, np.float32)
    first = replace(versions[0], edges=replace(versions[0].edges, weights=unknown, low=unknown, high=unknown))
    _svg(edge_history((first, *versions[1:]), 0, 1, None))
    assert edge_history(versions, 0, 1, None) != edge_history(versions, 0, 1, 0.4)


@pytest.mark.parametrize("down", [False, True])
def test_tiles_keep_every_pixel_and_part_them_by_a_clear_gap(down):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    picture = _png(tiles(images, down=down))
    if down:
        picture = picture.transpose(1, 0, 2)
    assert picture.shape == (8, 3 * 8 + 2 * 2, 4)
    for place, image in enumerate(images):
        tile = picture[:, place * 10 : place * 10 + 8]
        np.testing.assert_array_equal(tile[..., :3], image.transpose(1, 0, 2) if down else image)
        assert (tile[..., 3] == 255).all()
    assert (picture[:, 8:10, 3] == 0).all()


def test_large_images_are_made_smaller_and_keep_their_shape():
    picture = _png(tiles([np.zeros((300, 600, 3), np.uint8)]))
    assert picture.shape == (56, 112, 4)
