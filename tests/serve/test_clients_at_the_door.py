"""Clients of a running HTTP door: ours, and the openai package as its users have it."""

import asyncio
import time

import openai
import pytest
from answering import CHAT, IMAGES, KEY, KINDS, QUESTION, Oracle, answer_to, chunk, served

from graphdrl.oracle.http_client import HttpOracle
from graphdrl.oracle.pixels import to_base64
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.wire import codec_of
from serve.engine import EngineLost


@pytest.fixture(scope="module")
def door():
    """A running door: its address, and the oracle behind it."""
    oracle = Oracle()
    with served(oracle) as url:
        yield url, oracle


@pytest.fixture
def behind(door):
    """The oracle behind the running door, which a test may tell what to do."""
    yield door[1]
    door[1].error = door[1].gate = None


def until(happened) -> None:
    give_up_at = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@pytest.fixture
def chat(door):
    with openai.OpenAI(base_url=f"{door[0]}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_the_http_client_asks_every_kind_of_question_through_the_door(door):
    oracle = HttpOracle(door[0], KEY)
    answers = [oracle.submit(question).result(timeout=60) for question in KINDS]
    for question, answer in zip(KINDS, answers, strict=True):
        codec = codec_of(question)
        assert codec.answer_to_json(answer) == codec.answer_to_json(answer_to(question))
    assert oracle.stats()["questions"] >= len(KINDS)
    oracle.close()


def test_a_question_that_its_client_gives_up_is_cancelled_behind_the_door(behind, door):
    oracle, before, cancelled = HttpOracle(door[0], KEY), len(behind.questions), behind.num_cancelled
    behind.gate = asyncio.Event()
    future = oracle.submit(QUESTION)
    until(lambda: len(behind.questions) > before)
    future.cancel()
    until(lambda: behind.num_cancelled > cancelled)
    oracle.close()


def test_a_chat_whose_reader_goes_away_ends(door, chat, monkeypatch):
    ended = []

    async def endless(body):
        try:
            while True:
                yield chunk("3")
                await asyncio.sleep(0.01)
        finally:
            ended.append(True)

    monkeypatch.setattr(door[1], "chat_stream", endless)
    with chat.chat.completions.create(**CHAT, stream=True) as chunks:
        assert next(iter(chunks)).choices[0].delta.content == "3"
    until(lambda: ended)


def test_openai_chats_about_an_image(door, chat):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{to_base64(IMAGES[:1])[0]}"}}
    text = {"type": "text", "text": "Rate the image with one digit, from 0 to 5. Attribute: hat"}
    messages = [{"role": "user", "content": [image, text]}]
    answer = chat.chat.completions.create(model="m", messages=messages, max_tokens=1, temperature=0)
    assert answer.choices[0].message.content == "3"
    assert door[1].chats[-1] == {"model": "m", "messages": messages, "max_tokens": 1, "temperature": 0}
    assert [model.id for model in chat.models.list()] == ["m"]


def test_openai_reads_an_answer_as_it_is_written(chat):
    with chat.chat.completions.create(**CHAT, stream=True) as chunks:
        assert [part.choices[0].delta.content for part in chunks] == ["3", " and", " more"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Busy("full"), openai.RateLimitError),
        (ValueError("no such model"), openai.BadRequestError),
        (OracleError("no model"), openai.InternalServerError),
        (KeyError("secret"), openai.InternalServerError),
    ],
)
def test_openai_raises_its_own_errors(behind, chat, error, kind, stream):
    behind.error = error
    with pytest.raises(kind) as raised:
        chat.chat.completions.create(**CHAT, stream=stream)
    assert "secret" not in str(raised.value)
    assert raised.value.code == raised.value.type


def test_openai_is_told_of_a_wrong_key_and_a_wrong_route(door, chat):
    stranger = chat.with_options(api_key="another")
    with pytest.raises(openai.AuthenticationError, match="Bearer KEY"):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError, match="no route /v1/embeddings"):
        chat.embeddings.create(model="m", input="text")


@pytest.mark.parametrize("field", [{"tools": []}, {"chat_template": "{{ x }}"}, {"n": 1000}, {"max_tokens": 10**9}])
def test_what_the_chat_does_not_take_is_said(chat, field):
    with pytest.raises(openai.BadRequestError, match=next(iter(field))):
        chat.chat.completions.create(**CHAT, extra_body=field)


def test_what_goes_wrong_while_an_answer_is_written_is_told_at_its_end(door, chat, monkeypatch):
    async def broken(body):
        yield chunk("3")
        raise EngineLost("a replica was lost")

    monkeypatch.setattr(door[1], "chat_stream", broken)
    words = []
    with pytest.raises(openai.APIError, match="a replica was lost"):
        words += [part.choices[0].delta.content for part in chat.chat.completions.create(**CHAT, stream=True)]
