"""Files that nobody has vetted: each bad kind is refused with its reason, each good one comes out square."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from graphdrl.images import image_ids, load_source
from graphdrl.images.checks import ImageLimits, UnreadableImage, find_image_files, read_image

RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


def two_halves(width=40, height=40):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def save(folder, name, image, **options):
    path = folder / name
    image.save(path, **options)
    return path


def png_header(width, height):
    """A PNG that claims a size and carries no pixels to speak of."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif"])
def test_every_accepted_format_is_read(tmp_path, suffix):
    image = read_image(save(tmp_path, f"a.{suffix}", two_halves()), 16)
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[8, 2], RED, atol=12)
    np.testing.assert_allclose(image[8, 13], BLUE, atol=12)


def test_the_centre_square_is_kept(tmp_path):
    wide = Image.new("RGB", (120, 40), GREEN)
    wide.paste(two_halves(), (40, 0))
    image = read_image(save(tmp_path, "wide.png", wide), 20)
    np.testing.assert_allclose(image[:, 3], np.tile(RED, (20, 1)), atol=12)
    np.testing.assert_allclose(image[:, 16], np.tile(BLUE, (20, 1)), atol=12)


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    image = read_image(save(tmp_path, "turned.jpg", two_halves(), exif=exif, quality=95), 16)
    np.testing.assert_allclose(image[2, 8], RED, atol=20)
    np.testing.assert_allclose(image[13, 8], BLUE, atol=20)


def test_a_large_jpeg_is_the_same_as_its_small_copy(tmp_path):
    small = read_image(save(tmp_path, "small.png", two_halves()), 16)
    large = read_image(save(tmp_path, "large.jpg", two_halves(1600, 1600), quality=95), 16)
    assert np.abs(small.astype(int) - large.astype(int)).mean() < 8


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16", "CMYK"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    deep = Image.fromarray(np.full((20, 20), 40_000, np.uint16))
    image = deep if mode == "I;16" else two_halves(20, 20).convert(mode)
    pixels = read_image(save(tmp_path, f"image.{'jpg' if mode == 'CMYK' else 'png'}", image), 20)
    assert pixels.shape == (20, 20, 3)
    if mode == "I;16":
        assert np.unique(pixels).tolist() == [40_000 >> 8]


def test_what_is_transparent_becomes_white(tmp_path):
    assert read_image(save(tmp_path, "clear.png", Image.new("RGBA", (20, 20), (9, 9, 9, 0))), 10).min() == 255


def test_content_decides_not_the_suffix(tmp_path):
    path = save(tmp_path, "a.png", two_halves())
    disguised = tmp_path / "b.jpg"
    path.rename(disguised)
    assert read_image(disguised, 16).shape == (16, 16, 3)
    (tmp_path / "script.png").write_bytes(b"#!/bin/sh\necho no picture\n")
    with pytest.raises(UnreadableImage, match="holds none of the accepted formats"):
        read_image(tmp_path / "script.png", 16)


def test_a_format_that_is_not_accepted_is_never_decoded(tmp_path):
    with pytest.raises(UnreadableImage, match="accepted formats"):
        read_image(save(tmp_path, "vector.png", two_halves(), format="EPS"), 16)


def test_a_second_picture_inside_a_photograph_is_no_animation(tmp_path):
    path = save(tmp_path, "telephone.jpg", two_halves(), format="MPO", save_all=True, append_images=[two_halves()])
    assert read_image(path, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_is_refused(tmp_path, suffix):
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN, BLUE)]
    path = save(tmp_path, f"moving.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImage, match="animated"):
        read_image(path, 16)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = save(tmp_path, f"cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=r"decoded|formats"):
        read_image(path, 16)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (1, 100_000, "each side needs 8 or more"),
        (9, 100_000, "longer than 16 to 1"),
        (60_000, 60_000, "pixels"),
        (8_000, 8_000, "more than the limit of 50,000,000"),
    ],
)
def test_a_size_out_of_bounds_is_refused_before_decoding(tmp_path, monkeypatch, width, height, reason):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(UnreadableImage, match=reason):
        read_image(path, 16)


def test_a_header_that_lies_about_its_pixels_is_refused(tmp_path):
    (tmp_path / "lie.png").write_bytes(png_header(64, 64))
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        read_image(tmp_path / "lie.png", 16)


def test_files_too_large_empty_or_no_files_are_refused(tmp_path):
    path = save(tmp_path, "a.png", two_halves())
    with pytest.raises(UnreadableImage, match="larger than the limit of 50 bytes"):
        read_image(path, 16, ImageLimits(file_bytes=50))
    (tmp_path / "nothing.png").touch()
    with pytest.raises(UnreadableImage, match="is empty"):
        read_image(tmp_path / "nothing.png", 16)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        read_image(tmp_path / "pipe.png", 16)
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_image(tmp_path / "gone.png", 16)


@pytest.fixture
def folder(tmp_path):
    """Six different images in two levels, one repeated, two broken, and files that are none."""
    rng = np.random.default_rng(0)
    for number in range(6):
        place = tmp_path / ("below" if number % 2 else ".")
        place.mkdir(exist_ok=True)
        save(place, f"{number}.png", Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)))
    (tmp_path / "again.png").write_bytes((tmp_path / "4.png").read_bytes())
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_names(folder):
    top, below = ["0.png", "2.png", "4.png", "again.png"], ["below/1.png", "below/3.png", "below/5.png"]
    assert find_image_files(folder) == [*top, *below, "broken.png", "empty.jpg"]
    drawn = load_source("folder", path=folder, attributes=("hat",)).draw(None, 16, 0)
    assert drawn.images.shape == (6, 16, 16, 3)
    assert drawn.ids == image_ids(drawn.images)
    assert drawn.attributes == ("hat",)
    assert drawn.grades is None
    np.testing.assert_array_equal(drawn.images[0], read_image(folder / "0.png", 16))
    np.testing.assert_array_equal(drawn.images[3], read_image(folder / "below" / "1.png", 16))


def test_what_a_folder_could_not_give_is_listed(folder):
    skipped = dict(load_source("folder", path=folder).draw(None, 16, 0).skipped)
    assert set(skipped) == {"broken.png", "empty.jpg", "again.png"}
    assert skipped["again.png"] == "shows the same as 4.png"
    assert skipped["empty.jpg"] == "is empty"


def test_part_of_a_folder_is_chosen_by_the_seed(folder):
    source = load_source("folder", path=folder)
    first, again, other = (source.draw(3, 16, seed).ids for seed in (1, 1, 2))
    assert first == again != other


def test_a_folder_without_a_readable_image_is_one_clear_error(tmp_path):
    source = load_source("folder", path=tmp_path)
    with pytest.raises(ValueError, match=r"holds no image .* it has no image files; accepted formats are JPEG, PNG"):
        source.draw(None, 16, 0)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of its 1 image files can be read \(broken\.jpg holds none"):
        source.draw(None, 16, 0)
    with pytest.raises(ValueError, match="there is no folder"):
        load_source("folder", path=tmp_path / "gone").draw(None, 16, 0)
    with pytest.raises(ValueError, match="cannot be drawn independently"):
        source.draw(None, 16, 0, independent=True)


def test_photographs_give_as_many_distinct_patches_as_asked():
    source = load_source("photographs")
    drawn = source.draw(60, 32, 3)
    assert drawn.images.shape == (60, 32, 32, 3)
    assert drawn.ids == image_ids(drawn.images) == source.draw(60, 32, 3).ids
    assert len(set(drawn.ids)) == 60
    assert drawn.images.std(axis=(1, 2, 3)).min() > 5
    assert drawn.attributes == ()
    with pytest.raises(ValueError, match="say how many"):
        source.draw(None, 32, 3)
