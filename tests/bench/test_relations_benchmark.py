"""The benchmark of relations on a few images, with an oracle that knows the factors or turns one of them around."""

from concurrent.futures import Future

import numpy as np
import pytest

from graphdrl.bench import relations
from graphdrl.config import load_config
from graphdrl.images import load_source
from graphdrl.images.faces import ATTRIBUTES
from graphdrl.images.ids import image_ids
from graphdrl.oracle import Answer, Question

FEW, SIZE = 300, 16


class Knows:
    """Grades the faces of the redraws by their factors; `turned`: what is a 5 of this attribute it calls a 0."""

    def __init__(self, redraws: int, turned: str | None = None) -> None:
        self._grades: dict[str, np.ndarray] = {}
        for redraw in range(redraws):
            faces = load_source("faces").draw(FEW, SIZE, relations.HELD_OUT_SEED + 1 + redraw)
            grades = 5 * faces.grades
            if turned is not None:
                grades[:, ATTRIBUTES.index(turned)] = 5 - grades[:, ATTRIBUTES.index(turned)]
            self._grades |= dict(zip(faces.ids, grades.astype(np.float32), strict=True))

    def submit(self, question: Question) -> "Future[Answer]":
        ids = image_ids(question.images)
        expected = np.stack([self._grades[image] for image in ids])
        nothing = np.zeros(expected.shape, bool)
        grades = (expected, np.rint(expected).astype(np.int8), 0 * expected, nothing, nothing[:, 0])
        future: Future[Answer] = Future()
        future.set_result(Answer(ids, question.attributes, *grades, "m", "p", expected.size))
        return future


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"NUM_REDRAWS": 2, "NUM_IMAGES": FEW, "_SIZE": SIZE, "_TRUTH_DRAWS": 20_000, "_NUM_ATTRIBUTES": 4}
    for name, value in (small | {"_NUM_SCORED": 200, "_NUM_BOOTSTRAP": 20}).items():
        monkeypatch.setattr(relations, name, value)


def test_an_oracle_that_never_errs_gives_the_figures_of_clean_factors() -> None:
    figures = relations.recovered(Knows(2), load_config(None), lambda _: None)
    assert figures["spearman_true"] > 0.9
    assert figures["coverage_95"] == figures["coverage_95_by_scores"]["clean"]
    assert figures["coverage_95"] > 0.85
    assert figures["coverage_95_by_scores"].keys() == {"clean", "oracle", "oracle_corrected"}
    assert (figures["redraws"], figures["images_a_redraw"]) == (2, FEW)


def test_an_attribute_that_is_graded_the_wrong_way_round_costs_recovery_and_coverage() -> None:
    figures = relations.recovered(Knows(2, turned="age"), load_config(None), lambda _: None)
    spearman, coverage = figures["spearman_true_by_scores"], figures["coverage_95_by_scores"]
    assert figures["spearman_true"] == spearman["oracle"] < spearman["clean"] - 0.2
    assert figures["coverage_95"] < coverage["clean"] - 0.1


def test_every_estimator_is_timed_and_the_default_has_the_key() -> None:
    figures = relations.timed(lambda _: None)
    assert figures["seconds_by_estimator"].keys() == {"partial", "polychoric", "somers_d", "tau_b"}
    assert figures["seconds_k40_n20000_b200"] == figures["seconds_by_estimator"]["somers_d"]
