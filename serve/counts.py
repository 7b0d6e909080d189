"""What the front has done so far, for each client and in sum: plain numbers that metrics, status and tests read."""

from bisect import bisect_left
from dataclasses import dataclass, field, fields

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper edges; a last bucket takes what is slower."""

MOST_CLIENTS = 200
"""Clients counted by name; those after them are counted together, so that no stranger can fill the memory."""

OTHERS = "others"


@dataclass
class ClientCounts:
    """One client's questions and what became of them; cumulative since the front was made.

    items: grades, pairs, beliefs or texts that were wanted; each was from_store, joined (to one in flight) or asked.
    images_zero: images on which every grade rounds to 0, of `images` that were graded.
    """

    questions: int = 0
    refused: int = 0
    late: int = 0
    given_up: int = 0
    failed: int = 0
    items: int = 0
    from_store: int = 0
    joined: int = 0
    asked: int = 0
    malformed: int = 0
    images: int = 0
    images_zero: int = 0
    images_flagged: int = 0
    seconds: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))

    def took(self, seconds: float) -> None:
        """A question was answered in so many seconds."""
        self.seconds += seconds
        self.latencies[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1


@dataclass(frozen=True)
class Snapshot:
    """All counts at one moment.

    queued: client -> items that wait for their turn; in_flight: items that the engines have now.
    asked_again: items that went to an engine once more, because the one that had them was lost.
    prompt_tokens, written_tokens, busy_s: of the engines, summed over replicas, those that are gone among them.
    """

    model: str
    clients: dict[str, ClientCounts]
    queued: dict[str, int]
    in_flight: int
    stored: int
    asked_again: int
    num_replicas: int
    prompt_tokens: int
    written_tokens: int
    busy_s: float
    up_s: float

    def total(self) -> dict[str, int | float]:
        """Every count of `ClientCounts`, but the latencies, summed over the clients."""
        names = [one.name for one in fields(ClientCounts) if one.name != "latencies"]
        return {name: sum(getattr(counts, name) for counts in self.clients.values()) for name in names}


class Ledger:
    """The clients' counts by name."""

    def __init__(self) -> None:
        self.clients: dict[str, ClientCounts] = {}

    def of(self, client: str) -> ClientCounts:
        name = client if client in self.clients or len(self.clients) < MOST_CLIENTS else OTHERS
        return self.clients.setdefault(name, ClientCounts())
