"""The wall between the oracle and whoever asks it."""

from concurrent.futures import Future
from typing import Protocol

from graphdrl.oracle.questions import A, Ask


class OracleError(RuntimeError):
    """The oracle cannot answer; the message says what is wrong and how to mend it."""


class Busy(OracleError):  # noqa: N818 - the name is the protocol's word
    """The oracle's queue is full: ask again later."""


class Late(OracleError):  # noqa: N818 - it names what happened
    """A question's deadline passed before its answer was there."""


class Oracle(Protocol):
    """What a client of the multimodal model sees."""

    def submit(self, question: Ask[A]) -> "Future[A]":
        """Ask without waiting; raises Busy when the queue is full.

        A client that cannot ask a kind of question raises OracleError, and says who can.
        """
        ...

    def close(self) -> None:
        """Give up what is still asked and let go of what the client holds."""
        ...
