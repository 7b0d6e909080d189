"""Scores a set of images without training: what `graphdrl score` and `graphdrl relations` run."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np

from graphdrl.config import Config
from graphdrl.images import ImageSet
from graphdrl.oracle import Answer, Oracle, Question, Scores, load_prompt
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.questions import Wording
from graphdrl.oracle.scores import ScoreStore
from jobs.oracle import APPLICATION, start_application, wait_for_application


@contextmanager
def open_oracle(config: Config, say: Callable[[str], None]) -> Iterator[Oracle]:
    """The oracle that the configuration names, ready to be asked; what was started here ends here."""
    if config.oracle.engine == "transformers":
        from graphdrl.oracle.tiny.local import TransformersOracle

        prompt, store = load_prompt("score", config.oracle.prompts), ScoreStore(config.oracle.score_store)
        with closing(TransformersOracle(config.oracle.model, prompt, store=store)) as oracle:
            yield oracle
        return
    from cluster import joined, num_gpus
    from graphdrl.oracle.clients import HandleOracle

    say("starting Ray and the oracle")
    with joined():
        start_application(config, min(1, num_gpus()))
        wait_for_application()
        with closing(HandleOracle(APPLICATION)) as client:
            yield client


def score_images(
    oracle: Oracle,
    images: np.ndarray,
    attributes: tuple[str, ...],
    config: Config,
    say: Callable[[str], None],
    wording: Wording = "usual",
) -> list[Answer]:
    """Answers for images uint8 [N, S, S, 3], in order; a few questions are in flight at a time."""
    size = config.oracle.images_per_question
    starts = range(0, len(images), size)
    parts = (images[at : at + size] for at in starts)
    questions = (Question(part, attributes, client=config.name, wording=wording) for part in parts)
    answers: dict[int, Answer] = {}
    done = 0
    for number, answer in as_answered(oracle, questions, config.oracle.max_in_flight):
        answers[number] = answer
        done += len(answer.image_ids)
        say(f"scored {done:,} of {len(images):,} images")
    return [answers[number] for number in sorted(answers)]


def scores_of(answers: list[Answer], chosen: int, of: int) -> Scores:
    """One table of the distinct images with whole answers; `chosen` of `of` images were asked about.

    Raises ValueError when no answer is whole.
    """
    inclusion = np.float32(chosen / of)
    scores: Scores | None = None
    for answer in answers:
        part = Scores.from_answer(answer, "data", np.full(len(answer.image_ids), inclusion))
        first = list({image: row for row, image in reversed(list(enumerate(part.image_ids)))}.values())
        part = part.rows(sorted(first))
        scores = part if scores is None else scores.extended(part)
    if scores is None or not len(scores):
        raise ValueError("the oracle gave no usable score for any image; ask for other attributes or another model")
    return scores


def subset(images: ImageSet, num: int, seed: int) -> np.ndarray:
    """Rows of at most `num` images, a simple random sample in the set's own order."""
    if num >= len(images):
        return np.arange(len(images))
    return np.sort(np.random.default_rng((seed, 2)).permutation(len(images))[:num])
