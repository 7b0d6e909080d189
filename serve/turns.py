"""Whose turn it is: one queue a client, served in rounds, so that nobody waits behind another's ten thousand."""

from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

_QUANTUM = 16
"""Items that a client may take in one round, about one image's grades."""


class Queued(Protocol):
    """What waits: so many items, which may share a call to the engine with those of the same lane."""

    @property
    def size(self) -> int: ...

    @property
    def lane(self) -> Hashable: ...

    @property
    def is_queued(self) -> bool:
        """False once it was taken, or nobody waits for it any more; it is then passed over."""
        ...


J = TypeVar("J", bound=Queued)


class Turns(Generic[J]):
    """Deficit round robin (Shreedhar and Varghese 1995) over clients, in items.

    most: items that may wait. When they do, only a client that holds less than an even share may add.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: dict[str, deque[J]] = {}
        self._round: deque[str] = deque()
        self._credit: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()

    def has_room(self, client: str, size: int) -> bool:
        """Whether the client may add so many items now. A first question is always let in, whatever its size."""
        held = self._sizes[client]
        share = self._most / len(self._round) if client in self._queues else self._most / (len(self._round) + 1)
        return held == 0 or self._sizes.total() + size <= self._most or held + size <= share

    def put(self, client: str, job: J) -> None:
        """Behind what the client has waiting. A job that several clients wait for is put once for each."""
        if client not in self._queues:
            self._queues[client] = deque()
            self._round.append(client)
        self._queues[client].append(job)
        self._sizes[client] += job.size

    def take(self, most: int) -> list[J]:
        """The next jobs of one lane, at least one and `most` items or a little more, if any wait."""
        taken: list[J] = []
        num_items, passed = 0, 0
        while num_items < most and passed < len(self._round):
            client = self._round[0]
            job = self._head(client)
            if job is None:
                self._remove(client)
            elif taken and job.lane != taken[0].lane:
                self._round.rotate(-1)
                passed += 1
            elif self._credit[client] < job.size:
                self._credit[client] += _QUANTUM
                self._round.rotate(-1)
            else:
                self._credit[client] -= job.size
                self._pop(client)
                taken.append(job)
                num_items += job.size
                passed = 0
        return taken

    def sizes(self) -> dict[str, int]:
        """Items that wait, by client; what was given up counts until its turn comes."""
        return {client: size for client, size in self._sizes.items() if size}

    def _head(self, client: str) -> J | None:
        queue = self._queues[client]
        while queue and not queue[0].is_queued:
            self._pop(client)
        return queue[0] if queue else None

    def _pop(self, client: str) -> None:
        self._sizes[client] -= self._queues[client].popleft().size

    def _remove(self, client: str) -> None:
        """Out of the round, and its credit with it: nobody saves up turns by asking nothing."""
        self._round.remove(client)
        del self._queues[client], self._credit[client], self._sizes[client]
