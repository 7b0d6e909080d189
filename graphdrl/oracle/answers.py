"""The store of answers that are no grades: weights over allowed tokens, and texts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from graphdrl.oracle.segments import Segments
from graphdrl.storage import Place

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("model", pa.string()),
        ("prompt_version", pa.string()),
        ("kind", pa.string()),
        ("text", pa.string()),
        ("weights", pa.list_(pa.float32())),
    ],
    metadata={"format": "graphdrl.answers/1"},
)


class Kept(NamedTuple):
    """What the model said: a text, or weights over the tokens that it was allowed, in their order; the other is empty.

    Weights are kept as float32.
    """

    text: str = ""
    weights: tuple[float, ...] = ()


class AnswerStore:
    """Answers by (key, model, prompt version), kept in a folder that any number of writers may share.

    A key is a hash of all that was asked: images, attributes, way of asking. Segments are those of `Segments`, with
    the same promises as the score store.
    """

    def __init__(self, folder: str | Place) -> None:
        self._indexes: dict[tuple[str, str], dict[str, tuple[str, bytes]]] = {}
        self._segments = Segments(folder, SCHEMA, name="answer", check=_check_table, insert=self._insert)

    @property
    def folder(self) -> Place:
        return self._segments.folder

    @property
    def damaged(self) -> list[tuple[str, str]]:
        """Segments that could not be read, by name, and why."""
        return self._segments.damaged

    def __len__(self) -> int:
        """How many answers can be looked up."""
        with self._segments.reading():
            return sum(map(len, self._indexes.values()))

    def lookup(self, keys: Sequence[str], model: str, prompt_version: str) -> list[Kept | None]:
        """What is kept under each key; None where there is nothing."""
        with self._segments.reading():
            index = self._indexes.get((model, prompt_version), {})
            found = [index.get(key) for key in keys]
        return [None if one is None else _unpacked(*one) for one in found]

    def append(self, keys: Sequence[str], kept: Sequence[Kept], kind: str, model: str, prompt_version: str) -> None:
        """Take one answer a key. They count after `flush`.

        kind: what was asked, for whoever reads the files; it is no part of the key.
        Raises ValueError for a weight that is negative or not finite.
        """
        if len(keys) != len(kept):
            raise ValueError(f"{len(keys)} keys and {len(kept)} answers are not as many")
        same = (pa.repeat(pa.scalar(value, pa.string()), len(keys)) for value in (model, prompt_version, kind))
        texts = pa.array([one.text for one in kept], pa.string())
        weights = pa.array([one.weights for one in kept], pa.list_(pa.float32()))
        table = pa.table([pa.array(keys, pa.string()), *same, texts, weights], schema=SCHEMA)
        _check_table(table)
        self._segments.append(table)

    def flush(self) -> None:
        """Write what was appended as one segment; only then can it be looked up.

        Raises OracleError when the folder cannot be written; the answers are kept and written with the next flush.
        """
        self._segments.flush()

    def close(self) -> None:
        """Flush, and join this writer's segments."""
        self._segments.close()

    def _insert(self, table: pa.Table) -> None:
        names = ("model", "prompt_version", "key", "text")
        lists = table["weights"].combine_chunks()
        values, ends = lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy()).tolist()
        start = 0
        for model, version, key, text, end in zip(*(table[name].to_pylist() for name in names), ends, strict=True):
            self._indexes.setdefault((model, version), {})[key] = (text, values[start:end].tobytes())
            start = end


def _unpacked(text: str, weights: bytes) -> Kept:
    return Kept(text, tuple(np.frombuffer(weights, np.float32).tolist()))


def _check_table(table: pa.Table) -> None:
    """Raises ValueError for a weight that is missing, negative or not finite."""
    weights = table["weights"].combine_chunks().flatten()
    values = weights.to_numpy(zero_copy_only=False)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(values)} weights are missing, negative or not finite")
