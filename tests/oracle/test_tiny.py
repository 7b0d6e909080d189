"""The built-in model: its recipe and its weights."""

import json

import numpy as np
import pytest
import torch

from graphdrl.oracle.evaluation import concordance
from graphdrl.oracle.identity import BUILTIN_FOLDER
from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.tiny.data import (
    ATTRIBUTES,
    HELD_OUT_SEED,
    Batch,
    draw_faces,
    draw_portraits,
    to_pixels,
)
from graphdrl.oracle.tiny.evaluate import agreement
from graphdrl.oracle.tiny.lessons import Lessons
from graphdrl.oracle.tiny.local import Grader
from graphdrl.oracle.tiny.measuring import described_f1, measure, write
from graphdrl.oracle.tiny.packing import ask_packed, chat_tokens, pack
from graphdrl.oracle.tiny.tasks import (
    WORDS,
    Target,
    Tasks,
    description,
    differs_most,
    first_shows_more,
    question,
    two_hot,
)
from graphdrl.oracle.tiny.train import (
    WEIGHTS,
    answer_losses,
    build_learner,
    cross_entropy,
    learning_rate_share,
    main,
    mean_losses,
)

VLLM_BLOCK = 32


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return build_learner(seed=0)


@pytest.fixture(scope="module")
def grader():
    return Grader("builtin")


@pytest.fixture(scope="module")
def tasks(grader):
    return Tasks(grader._processor)


def questions(attributes):
    return [load_prompt("score").render(attribute) for attribute in attributes]


def some_values(num):
    """Values [num, K], a few of them unknown."""
    values = torch.rand(num, len(ATTRIBUTES), generator=torch.Generator().manual_seed(0))
    values[::2, -2:] = torch.nan
    return values


def rows(branch, num):
    """The branch's tokens as each of its rows has them: int64 [num, T]."""
    ids = torch.tensor([branch.tokens] * num)
    for place, tokens in branch.written.items():
        ids[:, place] = tokens
    return ids


# --- how it learns


def test_two_hot_targets_have_the_value_as_their_mean():
    values = torch.tensor([0.0, 0.13, 0.5, 0.99, 1.0])
    targets = two_hot(values)
    torch.testing.assert_close(targets.sum(-1), torch.ones(5))
    torch.testing.assert_close(targets @ torch.arange(6.0), 5 * values)
    assert ((targets > 0).sum(-1) <= 2).all()


def test_what_is_not_known_is_not_taught():
    logits = torch.randn(2, len(ATTRIBUTES), 40).log_softmax(-1)
    values = torch.rand(2, len(ATTRIBUTES))
    values[1] = torch.nan
    digits = torch.arange(6)

    def taught(num):
        shares = two_hot(values[:num])
        return [Target("score", 0, digits.expand(num, -1), shares[:, k]) for k in range(len(ATTRIBUTES))]

    torch.testing.assert_close(cross_entropy(logits, taught(2)), cross_entropy(logits[:1], taught(1)))


def test_cross_entropy_by_hand():
    logits = torch.tensor([[[0.5, 0.25, 0.25]], [[0.2, 0.2, 0.6]]]).log()
    target = Target("rank", 0, torch.tensor([[0, 1], [0, 2]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    expected = -(np.log(0.5) + 0.5 * np.log(0.2) + 0.5 * np.log(0.6)) / 2
    assert cross_entropy(logits, [target]).item() == pytest.approx(expected)


def test_ties_in_rank_are_halves_and_the_unknown_is_not_taught():
    shares = first_shows_more(torch.tensor([0.4, 0.1, 0.3, torch.nan]), torch.tensor([0.2, 0.9, 0.3, 0.5]))
    assert shares.tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0, 0]]


def test_what_differs_most_must_lead():
    first = torch.tensor([[0.1, 0.5, torch.nan], [0.1, 0.5, 0.0], [0.0, 0.0, 0.0]])
    second = torch.tensor([[0.2, 0.0, 0.9], [0.5, 0.1, 0.0], [0.0, 0.0, 0.0]])
    assert differs_most(first, second).tolist() == [1, -1, -1]


def test_descriptions_keep_one_order():
    values = {"smile": 0.5, "bald": 0.9, "long_hair": 1.0, "hat": 0.4}
    assert description([values.get(name, np.nan) for name in ATTRIBUTES]) == "bald, smile, long hair"
    assert description([0.0] * len(ATTRIBUTES)) == "nothing"


def test_learning_rate_warms_up_holds_and_falls():
    assert learning_rate_share(0.0, 0) == pytest.approx(0.01)
    assert learning_rate_share(0.2, 500) == 1.0
    assert learning_rate_share(0.65, 5_000) == pytest.approx(0.5)
    assert learning_rate_share(1.0, 9_000) == pytest.approx(0.01)


def test_a_few_steps_on_one_batch_bring_every_loss_down(learner):
    pictures = draw_faces(6, 5, 0.7, 2)
    values, changed = torch.from_numpy(pictures.values), torch.tensor([[0, 6], [1, 7]])
    batch = Batch(to_pixels(pictures.images), values, changed)
    losses = [learner.learn(batch, rate=1.0) for _ in range(12)]
    first, last = mean_losses(losses[:2]), mean_losses(losses[-2:])
    assert set(first) == set(WEIGHTS)
    assert {task: last[task] for task in WEIGHTS if last[task] > 0.9 * first[task]} == {}


def test_pairs_are_a_batch_s_changes_and_others(learner):
    batch = Batch(torch.zeros(8, 3, 64, 64), some_values(8), torch.tensor([[0, 6], [1, 7]]))
    pairs = Lessons(learner.tasks, seed=3).pair_up(batch).tolist()
    assert [sorted(pair) for pair in pairs[:2]] == [[0, 6], [1, 7]]
    assert all(first != second and max(first, second) < 6 for first, second in pairs[2:])


def test_packed_questions_equal_questions_asked_one_by_one(learner):
    pixels = to_pixels(draw_faces(2, 7).images)[:, None]
    tokens = [chat_tokens(learner.processor, asked) for asked in [*questions(ATTRIBUTES), question("describe")]]
    learner.model.eval()
    with torch.inference_mode():
        together = ask_packed(learner.model, pack(tokens), 2, pixel_values=pixels).logits
        alone = [learner.model(input_ids=torch.tensor([ids, ids]), pixel_values=pixels).logits[:, -1] for ids in tokens]
    learner.model.train()
    torch.testing.assert_close(together, torch.stack(alone, dim=1), atol=1e-4, rtol=1e-4)


def test_packed_lessons_equal_each_branch_alone(learner):
    values = some_values(3)
    tasks, context = learner.tasks, torch.zeros_like(values, dtype=torch.long)
    branches = [
        *tasks.score(values, [0, 10], "score_again"),
        tasks.score_all(values, torch.tensor([[3, 10, 0], [10, 0, 3], [0, 3, 10]]), context),
        tasks.describe(values),
    ]
    pixels = to_pixels(draw_faces(3, 7).images)[:, None]
    learner.model.eval()
    with torch.inference_mode():
        features = learner.model.get_image_features(pixels).pooler_output
        together, _ = answer_losses(learner.model, features[:, None], branches)
        for branch in branches[2:]:
            ids = rows(branch, 3)
            logits = learner.model(input_ids=ids, pixel_values=pixels).logits.log_softmax(-1)
            for task in {target.task for target in branch.targets}:
                taught = [target for target in branch.targets if target.task == task]
                alone = cross_entropy(logits[:, [target.place for target in taught]], taught)
                torch.testing.assert_close(together[task], alone, atol=1e-4, rtol=1e-4)
    learner.model.train()


def test_what_stands_first_in_several_prompts_is_packed_once():
    packed = pack([[7, 8, 1], [7, 8, 2, 3], [7, 9]])
    assert packed.ids[0].tolist() == [7, 8, 1, 2, 3, 9]
    assert packed.positions[0].tolist() == [0, 1, 2, 2, 3, 1]
    assert packed.answers.tolist() == [2, 4, 5]
    assert packed.places == ((0, 1, 2), (0, 1, 3, 4), (0, 5))
    assert packed.mask[0, 0, 4].tolist() == [True, True, False, True, True, False]


def test_recipe_leaves_a_model_that_loads(tmp_path):
    budget = ["--minutes", "0.01", "--num-faces", "32", "--num-avatars", "2", "--num-held-out", "80"]
    main([*budget, "--out", str(tmp_path)])
    *_, last = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert set(last["final"]) == {"faces", "avataaars", "open-peeps", "tasks"}
    grades = Grader(str(tmp_path / "model")).probabilities(draw_faces(2, 1).images, questions(["bald", "hat"]))
    np.testing.assert_allclose(grades.sum(-1), 1, rtol=1e-5)


# --- how good it is


def test_concordance_by_hand():
    grades = np.array([0.0, 0.0, 1.0])
    assert concordance(np.array([1.0, 2.0, 3.0]), grades) == 1.0
    assert concordance(np.array([1.0, 3.0, 2.0]), grades) == 0.5
    assert concordance(np.array([1.0, 2.0, 2.0]), grades) == 0.75


def test_agreement_by_hand():
    grades = np.array([[0.0, 0.2], [0.2, np.nan], [0.4, 0.4]], np.float32)
    expected = np.array([[0.2, 1.0], [1.3, 0.0], [1.4, 1.2]], np.float32)
    figures = agreement(expected, grades, graded=True, attributes=("a", "b"))
    assert figures["by_attribute"] == pytest.approx({"a": 1.0, "b": 1.0})
    assert figures["exact_match"] == pytest.approx(3 / 5)
    assert figures["zero_scoring_rate"] == 0.0
    assert agreement(expected, grades, graded=False)["concordance_min"] == 1.0


def test_scores_of_absent_attributes_tie_to_a_tenth_of_a_grade():
    rng = np.random.default_rng(0)
    grades = np.where(rng.random((4_000, 1)) < 0.76, 0.0, rng.uniform(0.2, 1, (4_000, 1)))
    expected = 5 * grades + rng.uniform(0, 0.04, grades.shape)
    figures = agreement(expected, grades, graded=True)
    assert figures["spearman_tenths_min"] > 0.99
    assert figures["spearman_min"] == pytest.approx(np.sqrt(1 - 0.76**3), abs=0.02)


def test_builtin_model_sees_faces_and_avatars(grader):
    for pictures, graded, least in (
        (draw_faces(150, HELD_OUT_SEED + 7, 0.7), True, 0.9),
        (draw_portraits(80, HELD_OUT_SEED + 7, "avataaars"), False, 0.95),
        (draw_portraits(80, HELD_OUT_SEED + 7, "open-peeps"), False, 0.95),
    ):
        expected = grader.probabilities(pictures.images, questions(ATTRIBUTES)) @ np.arange(6)
        figures = agreement(expected, pictures.values, graded, ATTRIBUTES)
        assert figures["spearman_mean" if graded else "concordance_mean"] >= least


def test_builtin_prompts_share_one_cache_block_and_end_in_a_digit(grader):
    tokens = [chat_tokens(grader._processor, question) for question in questions(ATTRIBUTES)]
    assert len({tuple(ids[:VLLM_BLOCK]) for ids in tokens}) == 1
    assert len({ids[VLLM_BLOCK] for ids in tokens}) > 1
    assert max(len(ids) for ids in tokens) <= VLLM_BLOCK + 4


@pytest.mark.parametrize(
    ("prompt", "columns", "num_images"),
    [
        ("score", (4,), 1),
        ("score_again", (10,), 1),
        ("score_all", (0, 10, 3), 1),
        ("describe", (), 1),
        ("rank", (11,), 2),
        ("name", (), 2),
    ],
)
def test_taught_tokens_are_those_that_a_server_makes(tasks, grader, prompt, columns, num_images):
    images = [np.full((64, 64, 3), 9, np.uint8)] * num_images
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": question(prompt, columns)}]
    chat = [{"role": "user", "content": content}]
    text = grader._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    asked = tasks.asked(prompt, columns, num_images)
    for answer in ("", "3", '{"bald":3,"long hair":0}', "bald, long hair", "dark clothes"):
        made = grader._processor(text=[text + answer], images=[images])["input_ids"][0]
        assert list(made) == [*asked, *tasks.tokens(answer)]


def test_digits_are_the_same_single_tokens_everywhere(tasks):
    digits = tasks.digits.tolist()
    assert len(set(digits)) == 6
    for grade, digit in enumerate(digits):
        assert tasks.tokens(str(grade)) == (digit,)
        for k, word in enumerate(WORDS):
            written = tasks.tokens(f'{{"{word}":{grade},"{WORDS[k - 1]}":{grade}}}')
            assert len(written) == 5
            assert written[1] == written[3] == digit


def test_json_targets_read_as_what_was_asked(tasks):
    values, orders = some_values(4), torch.tensor([[10, 0, 7], [0, 7, 10], [7, 10, 0], [10, 7, 0]])
    grades = (5 * values.nan_to_num(0)).round().long()
    branch = tasks.score_all(values, orders, grades)
    start = len(tasks.asked("score_all", (10, 0, 7)))
    for row, (tokens, columns) in enumerate(zip(rows(branch, 4).tolist(), orders.tolist(), strict=True)):
        assert tokens[:start] == tasks.asked("score_all", tuple(columns))
        (text,) = tasks.texts(torch.tensor([tokens[start:]]))
        assert text == json.dumps({WORDS[k]: int(grades[row, k]) for k in columns}, separators=(",", ":"))
    taught = [target for target in branch.targets if target.task == "score_all"]
    for place, target in enumerate(taught):
        asked = values.gather(1, orders[:, place, None])[:, 0]
        torch.testing.assert_close(target.shares @ torch.arange(6.0), 5 * asked.nan_to_num(0.0))
        torch.testing.assert_close(target.shares.sum(1), (~asked.isnan()).float())
    assert branch.targets[-1].tokens.unique().tolist() == [tasks.end]
    assert [target.place for target in branch.targets] == list(range(start - 1, start + 7))


def test_written_answers_end_and_blanks_are_not_taught(tasks):
    first, second = torch.zeros(3, len(ATTRIBUTES)), torch.zeros(3, len(ATTRIBUTES))
    first[0, ATTRIBUTES.index("hat")] = second[1, ATTRIBUTES.index("long_hair")] = 1.0
    branch = tasks.name(first, second)
    taught = [[int(t.tokens[row, 0]) for t in branch.targets if t.shares[row, 0] > 0] for row in range(3)]
    assert taught == [[*tasks.tokens("hat"), tasks.end], [*tasks.tokens("long hair"), tasks.end], []]


def test_described_f1_by_hand():
    values = np.zeros((2, len(ATTRIBUTES)), np.float32)
    values[0, :2] = 1.0
    assert described_f1([f"{WORDS[0]}, {WORDS[2]}", "nothing"], values) == 0.5


def test_builtin_model_answers_every_prompt(grader, tasks):
    before, after = draw_faces(40, HELD_OUT_SEED + 9, 0.7, 40).pairs()
    figures = measure(grader._model, tasks, {"faces": before}, {"faces": (before, after)})["tasks"]
    grader._model.eval()
    assert figures["score_again_spearman_mean"] > 0.9
    assert figures["score_all_spearman_mean"] > 0.9
    assert figures["score_all_well_formed"] > 0.9
    assert figures["rank_accuracy"] > 0.85
    assert figures["name_accuracy"]["faces"] > 0.6
    assert figures["describe_f1"] > 0.85


def test_builtin_model_stops_after_ranking(grader, tasks):
    images = draw_faces(8, HELD_OUT_SEED + 11).images.reshape(4, 2, 64, 64, 3)
    assert set(write(grader._model, tasks, tasks.asked("rank", (0,), 2), images)) <= {"1", "2"}


def test_builtin_weights_are_small_and_explain_themselves():
    files = [path for path in BUILTIN_FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 << 20
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {path.name for path in files}
