"""Which scored images supervise a step."""

from dataclasses import replace

import numpy as np
import pytest

from graphdrl.training import LiveSchedule, LocalContext, RecordedSchedule, Supervision


def rows_of(version) -> dict[str, int]:
    return {image: 100 + row for row, image in enumerate(version.scores.image_ids)}


def test_images_are_drawn_with_the_version_s_weights(version) -> None:
    weights = np.zeros(len(version.scores), np.float32)
    weights[[3, 7]] = [0.25, 0.75]
    supervision = Supervision.of(replace(version, sample_weights=weights), rows_of(version), tie_margin=0.5)
    drawn = supervision.draw(seed=0, step=1, num=4000)
    assert set(drawn) == {3, 7}
    assert np.mean(drawn == 7) == pytest.approx(0.75, abs=0.03)
    assert supervision.rows[7] == 107


def test_a_draw_is_a_function_of_seed_and_step(version) -> None:
    supervision = Supervision.of(version, rows_of(version), tie_margin=0.5)
    np.testing.assert_array_equal(supervision.draw(1, 2, 8), supervision.draw(1, 2, 8))
    assert not np.array_equal(supervision.draw(1, 2, 8), supervision.draw(1, 3, 8))


def test_pairs_are_scaled_by_the_share_of_untied_ones(version) -> None:
    grades = np.zeros((40, 3), np.float32)
    grades[:20, 0] = 5  # half against half: half of the pairs differ
    grades[:, 1] = np.arange(40)  # all differ but an image with itself
    scores = replace(version.scores, expected=grades)
    supervision = Supervision.of(replace(version, scores=scores), rows_of(version), tie_margin=0.5)
    assert supervision.pair_scale[:2] == pytest.approx([2.0, 40 / 39], rel=0.05)
    assert supervision.pair_scale[2] == pytest.approx(50.0)  # never differs: bounded


def test_scores_of_other_images_are_refused(version) -> None:
    with pytest.raises(ValueError, match="none of the 40 scored images"):
        Supervision.of(version, {"another": 0}, tie_margin=0.5)


class Versions:
    number = 0

    def latest(self) -> int:
        return self.number


def test_a_live_schedule_takes_at_a_look_what_the_last_one_found_and_never_goes_back() -> None:
    versions = Versions()
    schedule = LiveSchedule(LocalContext(), versions, every=5)
    seen = []
    for step in range(17):
        versions.number = {0: 0, 3: 1, 7: 2, 11: 1}.get(step, versions.number)
        seen.append(schedule.version_at(step))
    assert seen == [*[0] * 10, *[1] * 5, 2, 2]


def test_relations_that_are_there_from_the_first_are_taken_at_the_first_step() -> None:
    versions = Versions()
    versions.number = 1
    schedule = LiveSchedule(LocalContext(), versions, every=5)
    assert [schedule.version_at(step) for step in range(3)] == [1, 1, 1]


def test_a_recorded_schedule_is_taken_again() -> None:
    schedule = RecordedSchedule([(5, 1), (10, 2)])
    assert [schedule.version_at(step) for step in (0, 4, 5, 9, 10, 99)] == [0, 0, 1, 1, 2, 2]
