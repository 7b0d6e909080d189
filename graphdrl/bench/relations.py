"""Relations: what they cost, how true they are, how honest their intervals; and what moving a model's nodes does."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder, run_config
from graphdrl.config import Config, load_config
from graphdrl.images import ImageSet, load_source
from graphdrl.images.avatars import HELD_OUT_SEED
from graphdrl.images.faces import ATTRIBUTES, NETWORK
from graphdrl.models import GEM
from graphdrl.oracle import HIGHEST_GRADE, Oracle, Scores
from graphdrl.oracle.doubt import load_calibration
from graphdrl.relations import (
    Correction,
    Edges,
    estimate,
    estimator_names,
    recovery,
    sign_agreement,
    true_relations,
)
from graphdrl.training import Run, measure_do_edges
from jobs import open_oracle, score_images, scores_of

NUM_REDRAWS = 20
NUM_IMAGES = 2_000
STRONG = 0.5
"""Grades of 0..5 that an attribute goes when another is set from 0 to 5: a tenth of the scale is a strong effect."""

_SIZE = 64
_NUM_ATTRIBUTES, _NUM_SCORED, _NUM_BOOTSTRAP = 40, 20_000, 200
_TRUTH_DRAWS = 200_000
_NUM_MOVED = 64
_SHORT = (
    "training.backend=local",
    "oracle.engine=transformers",
    "training.steps=1500",
    "data.num_test=0",
)


def run(say: Say) -> dict[str, Any]:
    """Figures of the estimators, of relations read off faces by the built-in oracle, and of one trained model.

    seconds_k40_n20000_b200: of Somers' D, intervals and false discoveries included.
    spearman_true, coverage_95: of Somers' D from the oracle's grades as a run takes them, uncorrected; the worst of the
    redraws, and the share of all intervals of all redraws that hold the true relation.
    do_sign_agreement: share of the strong true effects that a node moved with its neighbours shows, resolved and with
    the true sign.
    """
    figures: dict[str, Any] = timed(say)
    with fresh_folder() as folder:
        here = ("training.backend=local", "oracle.engine=transformers", f"oracle.score_store={folder}/score_store")
        config = load_config(None, ["name=relations", *here])
        with open_oracle(config, say) as oracle:
            figures |= recovered(oracle, config, say)
        say("training a model, 1,500 steps")
        trained = run_config(folder, "do", *_SHORT)
        with open_oracle(config, say) as oracle:
            say("moving its nodes")
            figures |= moved(trained, oracle)
    return figures


def timed(say: Say) -> dict[str, Any]:
    """Seconds of each estimator on made-up grades that hang together."""
    rng = np.random.default_rng(0)
    mixing = np.eye(_NUM_ATTRIBUTES) + 0.2 * rng.standard_normal((_NUM_ATTRIBUTES, _NUM_ATTRIBUTES))
    shift = rng.standard_normal(_NUM_ATTRIBUTES)
    values = np.clip(1 + shift + rng.standard_normal((_NUM_SCORED, _NUM_ATTRIBUTES)) @ mixing, 0, HIGHEST_GRADE)
    scores = clean_scores(values, tuple(f"attribute_{k}" for k in range(_NUM_ATTRIBUTES)))
    seconds = {}
    for name in estimator_names():
        say(f"{_NUM_ATTRIBUTES} attributes, {_NUM_SCORED:,} images, {_NUM_BOOTSTRAP} draws: {name}")
        started = time.monotonic()
        estimate(scores, name, num_bootstrap=_NUM_BOOTSTRAP)
        seconds[name] = round(time.monotonic() - started, 2)
    return {"seconds_k40_n20000_b200": seconds["somers_d"], "seconds_by_estimator": seconds}


def recovered(oracle: Oracle, config: Config, say: Say) -> dict[str, Any]:
    """Spearman and coverage over redraws of faces: clean factors, the oracle's grades, and these corrected."""
    truth = true_relations(HIGHEST_GRADE * NETWORK.sample(_TRUTH_DRAWS, 0)[:, : len(ATTRIBUTES)])
    calibration = load_calibration(config.oracle.model)
    assert calibration is not None, "the built-in model has no calibration beside its weights"
    correction = Correction(calibration.confusion(ATTRIBUTES, gold="faces"))
    found: dict[str, list[dict[str, float]]] = {"clean": [], "oracle": [], "oracle_corrected": []}
    for redraw in range(NUM_REDRAWS):
        say(f"redraw {redraw + 1} of {NUM_REDRAWS}")
        faces = load_source("faces").draw(NUM_IMAGES, _SIZE, HELD_OUT_SEED + 1 + redraw)
        for name, edges in _estimated(faces, oracle, config, correction, redraw).items():
            found[name].append(recovery(edges, truth))
    worst = {name: min(one["spearman"] for one in each) for name, each in found.items()}
    coverage = {name: float(np.mean([one["coverage"] for one in each])) for name, each in found.items()}
    return {
        "spearman_true": worst["oracle"],
        "spearman_true_by_scores": worst,
        "coverage_95": coverage["oracle"],
        "coverage_95_by_scores": coverage,
        "mean_error_by_scores": {
            name: float(np.mean([one["mean_error"] for one in each])) for name, each in found.items()
        },
        "redraws": NUM_REDRAWS,
        "images_a_redraw": NUM_IMAGES,
    }


def _estimated(faces: ImageSet, oracle: Oracle, config: Config, correction: Correction, seed: int) -> dict[str, Edges]:
    assert faces.grades is not None
    answers = score_images(oracle, faces.images, ATTRIBUTES, config, lambda _: None)
    seen = scores_of(answers, len(faces), len(faces))
    clean = clean_scores(HIGHEST_GRADE * faces.grades, ATTRIBUTES)
    return {
        "clean": estimate(clean, seed=seed),
        "oracle": estimate(seen, seed=seed),
        "oracle_corrected": estimate(seen, seed=seed, correction=correction),
    }


def moved(trained: Run, oracle: Oracle) -> dict[str, Any]:
    """`do` edges of a trained model against the effects of setting a node of the network that drew its images."""
    model = GEM.from_pretrained(trained.model)
    images = load_source("faces").draw(_NUM_MOVED, _SIZE, HELD_OUT_SEED).images
    alone, carried = measure_do_edges(model, oracle, images)
    truth = HIGHEST_GRADE * NETWORK.effects(ATTRIBUTES)
    signs = {
        "with_neighbours": asdict(sign_agreement(carried, truth, STRONG)),
        "alone": asdict(sign_agreement(alone, truth, STRONG)),
    }
    own = np.diag(alone.effects)
    return {
        "do_sign_agreement": signs["with_neighbours"]["agreed_resolved"],
        "do": signs
        | {
            "strong_effect_grades": STRONG,
            "images_moved": _NUM_MOVED,
            "own_effect_mean": float(own.mean()),
            "own_effect_min": float(own.min()),
            "other_effect_mean_size": _mean_size(alone.effects),
            "other_effect_mean_size_with_neighbours": _mean_size(carried.effects),
        },
    }


def _mean_size(effects: np.ndarray) -> float:
    return float(np.abs(effects[~np.eye(len(effects), dtype=bool)]).mean())


def clean_scores(values: np.ndarray, attributes: tuple[str, ...]) -> Scores:
    """Scores of an oracle that never errs, from values 0..5 [N, K]."""
    num = len(values)
    expected = values.astype(np.float32)
    return Scores(
        image_ids=tuple(f"{row:08x}" for row in range(num)),
        attributes=attributes,
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=np.zeros_like(expected),
        inclusion_probability=np.ones(num, np.float32),
        flagged=np.zeros(num, np.bool_),
        source="data",
        model="clean",
        prompt_version="none",
    )
