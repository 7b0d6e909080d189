"""How well the oracle sees: its scores on 2,000 held-out images of each kind against the truth, asked through vLLM."""

from typing import Any

import numpy as np

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder
from graphdrl.config import Config, load_config
from graphdrl.images import load_source
from graphdrl.images.avatars import HELD_OUT_SEED, TRAINING_STYLES
from graphdrl.oracle import Oracle
from graphdrl.oracle.tiny.evaluate import agreement
from jobs import open_oracle, score_images

_NUM_IMAGES = 2_000
_SIZE = 64
_PRESENCE = 0.7
"""Share of the faces in which each attribute shows in one grade or another: there are grades to put in order."""


def run(say: Say) -> dict[str, Any]:
    """Faces (graded truth: Spearman) at the top level; avatars (ordered categories: concordance) below, style by style.

    `as_in_the_data`: faces whose attributes are as rare as in the training data. Most of their true grades are 0, which
    are all tied, and that caps Spearman well below 1 for any oracle. The figures of the avatars are those of the worse
    style.
    """
    with fresh_folder() as folder:
        config = load_config(None, ["name=oracle-quality", f"oracle.score_store={folder}/score_store"])
        with open_oracle(config, say) as oracle:
            figures = _quality(oracle, "faces", {"presence": _PRESENCE}, config, say)
            figures["as_in_the_data"] = _quality(oracle, "faces", {}, config, say)
            styles = {style: _quality(oracle, "avatars", {"style": style}, config, say) for style in TRAINING_STYLES}
    worse = min(styles.values(), key=lambda style: style["concordance_mean"])
    least = min(style["concordance_min"] for style in styles.values())
    return figures | {"avatars": worse | {"concordance_min": least, "styles": styles}}


def _quality(oracle: Oracle, name: str, parameters: dict[str, Any], config: Config, say: Say) -> dict[str, Any]:
    source = load_source(name, **parameters)
    images = source.draw(_NUM_IMAGES, _SIZE, HELD_OUT_SEED, independent=True)
    assert images.grades is not None
    answers = score_images(oracle, images.images, images.attributes, config, say)
    expected = np.concatenate([answer.expected for answer in answers])
    return agreement(expected, images.grades, source.graded, images.attributes)
