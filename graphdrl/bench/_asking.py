"""A client that asks the oracle about fresh images while a benchmark kills its parts, and keeps count."""

import threading
from collections.abc import Iterator
from contextlib import closing

from graphdrl.images import load_source
from graphdrl.oracle import Question
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.clients import HandleOracle

APPLICATION = "oracle"
IMAGES_PER_QUESTION = 16
_SEED = 1_500_000


class AskingClient(threading.Thread):
    """Asks about fresh images until it is told to stop, and keeps count; a question is one attribute of one image.

    number: of the client; no two of them ever see the same image. in_flight: questions that wait for answers at a time.
    pause_s: between two questions.
    """

    def __init__(self, number: int, in_flight: int = 4, pause_s: float = 0.0) -> None:
        super().__init__(name=f"client {number}")
        self._number, self._in_flight, self._pause_s = number, in_flight, pause_s
        self.enough = threading.Event()
        self.num_asked = 0
        self.answered: list[str] = []
        self.num_answers = 0
        self.num_malformed = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with closing(HandleOracle(APPLICATION)) as oracle:
                for _, answer in as_answered(oracle, self._questions(), self._in_flight):
                    self.answered += answer.image_ids
                    self.num_answers += answer.expected.size
                    self.num_malformed += int(answer.malformed.sum())
        except Exception as error:  # reported by whoever joins the threads
            self.error = error

    def _questions(self) -> Iterator[Question]:
        source, seed = load_source("faces"), _SEED + 10_000 * self._number
        while not self.enough.wait(self._pause_s):
            seed += 1
            images = source.draw(IMAGES_PER_QUESTION, 64, seed, independent=True)
            self.num_asked += IMAGES_PER_QUESTION * len(images.attributes)
            yield Question(images.images, images.attributes, client=self.name)
