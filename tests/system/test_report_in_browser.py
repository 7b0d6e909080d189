"""The pages in a real browser: Chromium renders them without a network, and what it shows is not blank."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graphdrl.images import faces
from graphdrl.oracle import HIGHEST_GRADE, Scores
from graphdrl.relations import estimate
from graphdrl.report import RelationsContent, write_relations_page

pytestmark = pytest.mark.system

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,3000"),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    factors = faces.NETWORK.sample(200, 0)
    images = faces.render(factors, 64)
    expected = HIGHEST_GRADE * factors[:, : len(faces.ATTRIBUTES)]
    scores = Scores(
        image_ids=tuple(str(row) for row in range(200)),
        attributes=faces.ATTRIBUTES,
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=np.zeros_like(expected),
        inclusion_probability=np.ones(200, np.float32),
        flagged=np.zeros(200, bool),
        source="data",
        model="known",
        prompt_version="none",
    )
    shown = dict(zip(scores.image_ids, images, strict=True))
    content = RelationsContent(title="Relations", edges=estimate(scores), scores=scores, images=shown)
    return write_relations_page(content, tmp_path_factory.mktemp("page") / "relations.html")


def browse(page: Path, profile: Path, *what: str) -> str:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "install chromium: `make test-system` does it where it may"
    command = [browser, *_FLAGS, f"--user-data-dir={profile}", *what, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_browser_finds_every_attribute_on_the_page(page: Path, tmp_path: Path) -> None:
    dom = browse(page, tmp_path, "--dump-dom")
    assert all(attribute in dom for attribute in faces.ATTRIBUTES)
    assert "</html>" in dom


def test_the_page_is_not_blank(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.std() > 10
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
