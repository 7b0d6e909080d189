"""The store of texts and of weights over tokens."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from graphdrl.oracle import segments
from graphdrl.oracle.answers import AnswerStore, Kept
from graphdrl.oracle.protocol import OracleError

MODEL, PROMPT = "a-model", "rank/1"


def fill(store: AnswerStore, *keys: str, model: str = MODEL) -> list[Kept]:
    """Weights of so many keys, flushed; what is kept of them."""
    kept = [Kept(weights=(1 / 2, 1 / 4, len(key) / 8)) for key in keys]
    store.append(keys, kept, "rank", model, PROMPT)
    store.flush()
    return kept


def test_texts_and_weights_come_back_in_the_order_asked(tmp_path):
    store = AnswerStore(tmp_path)
    weights = fill(store, "k1", "k22")
    store.append(["k3", "k4"], [Kept("brim of the hat – größer"), Kept()], "name", MODEL, PROMPT)
    store.flush()
    found = store.lookup(["k4", "k22", "unknown", "k3", "k1"], MODEL, PROMPT)
    assert found == [Kept(), weights[1], None, Kept("brim of the hat – größer"), weights[0]]
    assert len(store) == 4
    assert AnswerStore(tmp_path).lookup(["k3", "k1"], MODEL, PROMPT) == [found[3], found[4]]


def test_weights_are_kept_as_float32(tmp_path):
    store = AnswerStore(tmp_path)
    store.append(["k"], [Kept(weights=(0.1, 0.9))], "rank", MODEL, PROMPT)
    store.flush()
    (found,) = store.lookup(["k"], MODEL, PROMPT)
    assert found.weights == (float(np.float32(0.1)), float(np.float32(0.9)))


def test_nothing_is_found_under_another_model_or_prompt_or_before_it_is_on_disk(tmp_path):
    store = AnswerStore(tmp_path)
    fill(store, "k")
    assert store.lookup(["k"], "another", PROMPT) == [None]
    assert store.lookup(["k"], MODEL, "rank/2") == [None]
    store.append(["l"], [Kept("a text")], "name", MODEL, PROMPT)
    assert store.lookup(["l"], MODEL, PROMPT) == [None]


def test_a_file_says_what_was_asked_of_whom(tmp_path):
    store = AnswerStore(tmp_path)
    store.append(["k"], [Kept("smile")], "name", MODEL, "name/1")
    store.close()
    (path,) = tmp_path.glob("*.parquet")
    table = pq.read_table(path)
    assert table.to_pylist() == [
        {"key": "k", "model": MODEL, "prompt_version": "name/1", "kind": "name", "text": "smile", "weights": []}
    ]
    assert table.schema.metadata[b"format"] == b"graphdrl.answers/1"


def test_two_writers_share_a_folder_and_see_each_other(tmp_path):
    left, right = AnswerStore(tmp_path), AnswerStore(tmp_path)
    mine, theirs = fill(left, "k1"), fill(right, "k2", "k3")
    for store in (left, right):
        assert store.lookup(["k1", "k2", "k3"], MODEL, PROMPT) == mine + theirs
    left.close()
    right.close()
    assert AnswerStore(tmp_path).lookup(["k1", "k2", "k3"], MODEL, PROMPT) == mine + theirs


def test_a_torn_file_loses_its_own_answers_only_and_they_are_taken_again(tmp_path):
    store = AnswerStore(tmp_path)
    torn, kept = fill(store, "k1", "k22"), fill(store, "k333")
    victim = min(tmp_path.glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-9])
    again = AnswerStore(tmp_path)
    assert [name for name, _ in again.damaged] == [victim.name]
    assert again.lookup(["k1", "k22", "k333"], MODEL, PROMPT) == [None, None, *kept]
    fill(again, "k1", "k22")
    assert AnswerStore(tmp_path).lookup(["k1", "k22", "k333"], MODEL, PROMPT) == torn + kept


def test_answers_of_a_failed_write_are_written_with_the_next_one(tmp_path, monkeypatch):
    store = AnswerStore(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(segments.pq, "write_table", full)
        with pytest.raises(OracleError, match=r"answer store .*No space left on device"):
            fill(store, "k1")
    kept = fill(store, "k2")
    assert AnswerStore(tmp_path).lookup(["k1", "k2"], MODEL, PROMPT) == kept * 2


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -0.5])
def test_what_is_no_weight_is_refused(tmp_path, weight):
    with pytest.raises(ValueError, match="1 of 2 weights are missing, negative or not finite"):
        AnswerStore(tmp_path).append(["k"], [Kept(weights=(0.5, weight))], "rank", MODEL, PROMPT)


def test_as_many_keys_as_answers(tmp_path):
    with pytest.raises(ValueError, match="2 keys and 1 answers"):
        AnswerStore(tmp_path).append(["k", "l"], [Kept("text")], "name", MODEL, PROMPT)
