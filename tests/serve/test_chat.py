"""The OpenAI chat door on the engine of the built-in model, and what it refuses."""

import base64
import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import vllm_process
from PIL import Image

from graphdrl.oracle.identity import BUILTIN, model_folder
from graphdrl.oracle.prompts import load_prompt
from serve.chat import MOST_CHOICES, MOST_IMAGES, MOST_TOKENS, check_request

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
PROMPT = load_prompt("score").render("hat")


def as_url(image: Image.Image, kind: str = "png", **options) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def shown(url, **fields) -> dict:
    """A request about one image."""
    image = {"type": "image_url", "image_url": {"url": url}}
    content = [image, {"type": "text", "text": PROMPT}]
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, **fields}


def said(text: str = "x", **fields) -> dict:
    return {"messages": [{"role": "user", "content": text}], **fields}


def of_parts(*parts) -> dict:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def schema_format(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


PNG = as_url(Image.fromarray(PICTURE))
SCHEMA = {"type": "object", "properties": {"hat": {"enum": [0, 5]}}, "required": ["hat"], "additionalProperties": False}


@pytest.fixture(scope="module")
def seen():
    """A chat's day, in another process: vLLM changes torch and its environment for good."""
    bodies = {
        "one": shown(PNG, max_tokens=1, model="tiny"),
        "long": shown(PNG, max_tokens=12, stream_options=None),
        "many": shown(PNG, max_tokens=3, temperature=1.0, n=3, logprobs=True, top_logprobs=2, seed=1),
        "schema": shown(PNG, response_format=schema_format(SCHEMA)),
        "endless": said(response_format=schema_format({"type": "array", "items": {"enum": [0]}, "minItems": 200})),
        "other model": said(model="gpt-9"),
        "too long": said("x" * 5000),
        "no such schema": said(response_format=schema_format({"type": "nonsense"})),
        "no such token": said(logit_bias={"99999": 1}),
        "too hot": said(temperature=-1),
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool.submit(vllm_process.chats, model_folder(BUILTIN), bodies, PICTURE, PROMPT).result()


def test_an_answer_is_that_of_the_engine(seen):
    answer = seen["one"]
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == str(seen["grade"])
    assert answer["usage"]["completion_tokens"] == 1
    assert answer["model"] == "tiny"
    assert [model["id"] for model in seen["models"]["data"]] == ["tiny"]


def test_a_stream_says_what_the_whole_answer_says(seen):
    *events, last = seen["stream of long"]
    assert last == "data: [DONE]\n\n"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert len(chunks) > 3
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == seen["long"]["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == seen["long"]["choices"][0]["finish_reason"]


def test_what_the_protocol_offers_reaches_the_model(seen):
    assert len(seen["many"]["choices"]) == 3
    assert all(len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2 for choice in seen["many"]["choices"])
    assert json.loads(seen["schema"]["choices"][0]["message"]["content"])["hat"] in (0, 5)


def test_chats_and_questions_share_the_engine(seen):
    assert seen["at once"] == [str(seen["grade"])] * 8
    assert seen["grades at once"] == [seen["grade"]] * 64


def test_giving_up_frees_the_engine(seen):
    assert seen["given up"] == ["CancelledError", "closed"]
    assert seen["left"] == 0


@pytest.mark.parametrize("way", ["complete", "stream"])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("other model", "`gpt-9` does not exist"),
        ("too long", "maximum context length"),
        ("no such schema", ""),
        ("no such token", "logit_bias"),
        ("too hot", "temperature"),
    ],
)
def test_what_the_model_cannot_be_asked_is_the_clients_error(seen, way, body, why):
    kind, message = seen[f"{way} {body}"]
    assert kind == "ValueError"
    assert why in message
    assert "\n" not in message


def test_a_closed_engine_and_a_full_door_say_so(seen):
    assert seen["one too many"][0] == "Busy"
    assert seen["closed"][0] == "EngineLost"


BOMB = as_url(Image.new("1", (30_000, 30_000)))
TRUNCATED = PNG[: len(PNG.partition(",")[0]) + 1 + 4000]
FRAMES = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([], "is a JSON object"),
        (said() | {"messages": []}, "a list of 1 to"),
        (said() | {"messages": [{"role": "tool", "content": "x"}]}, "has a role"),
        (
            said() | {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]},
            "text or image",
        ),
        (of_parts({"type": "input_audio"}), "of type text or image_url"),
        (said(n=MOST_CHOICES + 1), "n is a whole number from 1 to"),
        (said(max_tokens=MOST_TOKENS + 1), "max_tokens is a whole number"),
        (said(max_completion_tokens=True), "max_completion_tokens is a whole number"),
        (said(chat_template="{{ x }}"), "no field 'chat_template'"),
        (said(mm_processor_kwargs={"size": {"longest_edge": 10**6}}), "no field 'mm_processor_kwargs'"),
        (said(tools=[{"type": "function"}]), "no field 'tools'"),
        (said(temperature=float("nan")), "numbers are finite"),
        (said(logit_bias={str(token): 1 for token in range(400)}), "logit_bias maps at most"),
        (said(response_format={"type": "structural_tag"}), "text, json_object or json_schema"),
        (said(response_format=schema_format({"items": [{"pattern": "(a+)+b"}]})), "no regular"),
        (said(response_format=schema_format({"items": {"maxItems": 10**9}})), "maxItems is at most"),
        (said(response_format=schema_format({"enum": ["x" * 9000]})), "longer than the limit"),
        (shown("http://169.254.169.254/latest"), "nothing is fetched"),
        (shown("file:///etc/passwd"), "nothing is fetched"),
        (shown("data:text/html;base64,AAAA"), "nothing is fetched"),
        (shown(None), "nothing is fetched"),
        (shown("data:image/png;base64,!!!"), "not base64"),
        (shown("data:image/png;base64,AAAA"), "holds none of the accepted formats"),
        (shown("data:image/png;base64," + "A" * (6 << 20)), "larger than the limit"),
        (shown(BOMB), "more than the limit"),
        (shown(as_url(Image.new("RGB", (1, 100_000)))), "longer than 16 to 1"),
        (shown(as_url(FRAMES[0], "gif", save_all=True, append_images=FRAMES[1:])), "is animated"),
        (shown(TRUNCATED), "cannot be decoded"),
        (said() | {"messages": shown(PNG)["messages"] * (MOST_IMAGES + 1)}, "at most 16 images"),
    ],
)
def test_what_is_no_request_is_refused_before_the_model_sees_it(body, why):
    with pytest.raises(ValueError, match=why) as refused:
        check_request(body)
    assert "\n" not in str(refused.value)


def test_an_image_is_handed_on_as_it_was():
    (message,) = check_request(shown(PNG))["messages"]
    np.testing.assert_array_equal(np.asarray(message["content"][0]["image_pil"]), PICTURE)
