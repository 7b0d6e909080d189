"""The score store: what was written is read again, whatever else happened to the folder."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from graphdrl.oracle import segments
from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.scores import ScoreStore, grades_of

MODEL, PROMPT = "a-model", "v1"


def distributions(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(6), num).astype(np.float32)


def fill(store: ScoreStore, images: list[str], attributes: list[str], seed: int = 0, model: str = MODEL) -> np.ndarray:
    """Grades of every image on every attribute, flushed: [B, K, 6]."""
    values = distributions(len(images) * len(attributes), seed)
    pairs = [(image, attribute) for image in images for attribute in attributes]
    store.append([image for image, _ in pairs], [attribute for _, attribute in pairs], values, model, PROMPT)
    store.flush()
    return values.reshape(len(images), len(attributes), 6)


def test_grades_of_a_hand_worked_distribution():
    grades = grades_of(np.array([[0.5, 0, 0, 0, 0.25, 0.25], [0, 0, 1, 0, 0, 0], [np.nan] * 6]))
    assert grades.expected[:2].tolist() == [2.25, 2.0]
    assert grades.argmax.tolist() == [0, 2, -1]
    assert grades.entropy[:2] == pytest.approx([1.5 * math.log(2), 0.0])
    assert grades.malformed.tolist() == [False, False, True]
    assert np.isnan(grades.expected[2])


def test_lookup_gives_what_was_appended_and_nan_elsewhere(tmp_path):
    store = ScoreStore(tmp_path)
    values = fill(store, ["a", "b"], ["hat", "age"])
    found = store.lookup(["b", "unknown", "a"], ["age", "beard", "hat"], MODEL, PROMPT)
    np.testing.assert_array_equal(found[0, 0], values[1, 1])
    np.testing.assert_array_equal(found[2, 2], values[0, 0])
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert len(store) == 4


def test_nothing_is_found_under_another_model_or_prompt(tmp_path):
    store = ScoreStore(tmp_path)
    fill(store, ["a"], ["hat"])
    assert np.isnan(store.lookup(["a"], ["hat"], "another", PROMPT)).all()
    assert np.isnan(store.lookup(["a"], ["hat"], MODEL, "v2")).all()


def test_an_appended_grade_counts_only_once_it_is_on_disk(tmp_path):
    store = ScoreStore(tmp_path)
    store.append(["a"], ["hat"], distributions(1), MODEL, PROMPT)
    assert np.isnan(store.lookup(["a"], ["hat"], MODEL, PROMPT)).all()
    store.flush()
    assert not np.isnan(store.lookup(["a"], ["hat"], MODEL, PROMPT)).any()


def test_a_restart_finds_everything(tmp_path):
    first = ScoreStore(tmp_path)
    one = fill(first, ["a", "b"], ["hat", "age"])
    two = fill(first, ["c"], ["hat"], seed=1)
    again = ScoreStore(tmp_path)
    np.testing.assert_array_equal(again.lookup(["a", "b"], ["hat", "age"], MODEL, PROMPT), one)
    np.testing.assert_array_equal(again.lookup(["c"], ["hat"], MODEL, PROMPT), two)


def test_closing_joins_the_segments_of_this_writer_only(tmp_path):
    other = ScoreStore(tmp_path)
    fill(other, ["z"], ["hat"])
    store = ScoreStore(tmp_path)
    kept = [fill(store, [f"i{seed}"], ["hat"], seed) for seed in range(5)]
    store.close()
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    again = ScoreStore(tmp_path)
    found = again.lookup([f"i{seed}" for seed in range(5)], ["hat"], MODEL, PROMPT)
    np.testing.assert_array_equal(found, np.concatenate(kept))
    assert len(again) == 6


def test_segments_that_killed_writers_left_are_joined_when_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_MOST_SEGMENTS", 3)
    alive = ScoreStore(tmp_path)
    kept = [fill(alive, [f"i{seed}"], ["hat"], seed) for seed in range(3)]
    kept.append(fill(ScoreStore(tmp_path), ["i3"], ["hat"], seed=3))
    assert len(list(tmp_path.glob("*.parquet"))) == 4
    joined = ScoreStore(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    kept.append(fill(alive, ["i4"], ["hat"], seed=4))
    alive.close()
    for store in (joined, alive, ScoreStore(tmp_path)):
        found = store.lookup([f"i{seed}" for seed in range(5)], ["hat"], MODEL, PROMPT)
        np.testing.assert_array_equal(found, np.concatenate(kept))


def test_two_writers_share_a_folder_and_see_each_other(tmp_path):
    left, right = ScoreStore(tmp_path), ScoreStore(tmp_path)
    mine = fill(left, ["a"], ["hat"], seed=1)
    theirs = fill(right, ["b"], ["hat"], seed=2)
    for store in (left, right):
        found = store.lookup(["a", "b"], ["hat"], MODEL, PROMPT)
        np.testing.assert_array_equal(found, np.concatenate([mine, theirs]))


def test_a_grade_written_twice_is_one_grade(tmp_path):
    store = ScoreStore(tmp_path)
    fill(store, ["a"], ["hat"], seed=1)
    last = fill(store, ["a"], ["hat"], seed=2)
    assert len(store) == 1
    np.testing.assert_array_equal(store.lookup(["a"], ["hat"], MODEL, PROMPT), last)


def test_models_and_prompts_in_one_segment_are_kept_apart(tmp_path):
    store = ScoreStore(tmp_path)
    values = distributions(3)
    store.append(["a"], ["hat"], values[:1], "m1", "v1")
    store.append(["a"], ["hat"], values[1:2], "m2", "v1")
    store.append(["a"], ["hat"], values[2:], "m2", "v2")
    store.flush()
    for known in (store, ScoreStore(tmp_path)):
        for row, (model, version) in enumerate([("m1", "v1"), ("m2", "v1"), ("m2", "v2")]):
            np.testing.assert_array_equal(known.lookup(["a"], ["hat"], model, version)[0, 0], values[row])
        assert np.isnan(known.lookup(["a"], ["hat"], "m1", "v2")).all()
        assert len(known) == 3


def test_every_grade_is_found_whichever_images_were_asked_for_which_attributes(tmp_path):
    """Pairs at random, some twice, against a dict; the images fill several pages of the index."""
    rng = np.random.default_rng(0)
    images, attributes = [f"i{i}" for i in range(150)], [f"a{k}" for k in range(20)]
    store, expected = ScoreStore(tmp_path), {}
    for _ in range(12):
        pairs = [
            (str(image), str(one))
            for image, one in zip(rng.choice(images, 70), rng.choice(attributes, 70), strict=True)
        ]
        values = distributions(70, int(rng.integers(1 << 30)))
        expected |= dict(zip(pairs, values, strict=True))
        store.append(*zip(*pairs, strict=True), values, MODEL, PROMPT)
        store.flush()
    order = [*rng.permutation(images).tolist(), "unknown"]
    for known in (store, ScoreStore(tmp_path)):
        found = known.lookup(order, [*attributes, "unknown"], MODEL, PROMPT)
        assert len(known) == len(expected) == (~np.isnan(found[..., 0])).sum()
        for (image, attribute), value in expected.items():
            np.testing.assert_array_equal(found[order.index(image), attributes.index(attribute)], value)


def test_lookup_of_nothing(tmp_path):
    store = ScoreStore(tmp_path)
    fill(store, ["a"], ["hat"])
    assert store.lookup([], ["hat"], MODEL, PROMPT).shape == (0, 1, 6)
    assert store.lookup(["a"], [], MODEL, PROMPT).shape == (1, 0, 6)


def torn(path):
    path.write_bytes(path.read_bytes()[:-20])


def altered(path):
    """One bit flips inside the probabilities' pages."""
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(7).data_page_offset
    content[start + 60] ^= 0x10
    path.write_bytes(bytes(content))


def foreign(path):
    path.write_bytes(b"not a segment")


@pytest.mark.parametrize("damage", [torn, altered, foreign])
def test_a_damaged_segment_is_moved_aside_and_only_its_content_is_lost(tmp_path, damage, caplog):
    store = ScoreStore(tmp_path)
    fill(store, [f"a{i}" for i in range(50)], ["hat"], seed=1)
    kept = fill(store, ["b"], ["hat"], seed=2)
    victim = min(tmp_path.glob("*.parquet"))
    damage(victim)
    again = ScoreStore(tmp_path)
    assert [name for name, _ in again.damaged] == [victim.name]
    assert victim.name in caplog.text
    assert (tmp_path / "damaged" / victim.name).exists()
    np.testing.assert_array_equal(again.lookup(["b"], ["hat"], MODEL, PROMPT), kept)
    assert len(again) == 1
    repaired = fill(again, [f"a{i}" for i in range(50)], ["hat"], seed=1)
    restarted = ScoreStore(tmp_path)
    assert restarted.damaged == []
    np.testing.assert_array_equal(restarted.lookup([f"a{i}" for i in range(50)], ["hat"], MODEL, PROMPT), repaired)


def test_a_half_written_segment_is_not_read(tmp_path):
    store = ScoreStore(tmp_path)
    fill(store, ["a"], ["hat"])
    whole = next(tmp_path.glob("*.parquet")).read_bytes()
    (tmp_path / ".killed.parquet.part").write_bytes(whole[: len(whole) // 2])
    again = ScoreStore(tmp_path)
    assert len(again) == 1
    assert again.damaged == []


def test_a_full_disk_is_one_sentence_and_the_grades_are_kept(tmp_path, monkeypatch):
    store = ScoreStore(tmp_path)
    store.append(["a"], ["hat"], distributions(1), MODEL, PROMPT)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(OracleError, match=r"No space left on device.*free some space"):
            store.flush()
    assert list(tmp_path.iterdir()) == []
    store.flush()
    assert len(ScoreStore(tmp_path)) == 1


def test_what_is_no_distribution_is_refused(tmp_path):
    store = ScoreStore(tmp_path)
    with pytest.raises(ValueError, match="1 of 2 distributions"):
        store.append(["a", "b"], ["hat", "hat"], np.array([[0.5] * 6, [1, 0, 0, 0, 0, 0]]), MODEL, PROMPT)
    with pytest.raises(ValueError, match="not as many grades"):
        store.append(["a"], ["hat", "age"], distributions(1), MODEL, PROMPT)
