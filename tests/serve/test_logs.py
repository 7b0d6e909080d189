"""The front's log: every line is one JSON object, whoever is named in it."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from serve import logs
from serve.logs import JsonFormatter, close_log, event, open_log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "logs" / "oracle.jsonl"
    open_log(file)
    yield file
    close_log()


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="ascii").splitlines()]


def test_an_event_is_one_line_with_time_level_and_its_fields(log: Path):
    event("started", model="builtin@1", replicas=2)
    event("engine_lost", reason="an engine replica was lost", items=64)
    started, lost = lines(log)
    assert {"level": "info", "event": "started", "model": "builtin@1", "replicas": 2}.items() <= started.items()
    assert {"level": "error", "event": "engine_lost", "items": 64}.items() <= lost.items()
    assert datetime.fromisoformat(started["time"]) <= datetime.fromisoformat(lost["time"])


def test_times_are_of_the_world_not_of_a_place():
    record = logging.makeLogRecord({"created": 86_400.25, "msg": "started"})
    assert json.loads(JsonFormatter().format(record))["time"] == "1970-01-02T00:00:00.250+00:00"


@pytest.mark.parametrize(
    "client",
    ['x"}\n{"event": "stopped"}', "line\u2028break\r\x85", "torn \ud800", "\x1b[2J", ""],
)
def test_no_client_can_forge_a_line_by_its_name(log: Path, client: str):
    event("refused", client=client, question=7)
    (line,) = lines(log)
    assert (line["event"], line["client"], line["question"]) == ("refused", client, 7)


def test_what_json_does_not_have_and_what_is_long_is_still_one_line(log: Path):
    event("late", client="c" * 10_000, deadline_s=float("inf"), seconds=float("nan"), source=None)
    text = log.read_text()
    assert len(text) < 1_000
    line = json.loads(text, parse_constant=pytest.fail)
    assert line["client"].startswith("ccc")
    assert (line["deadline_s"], line["seconds"], line["source"]) == ("inf", "nan", None)


def test_a_field_cannot_take_the_place_of_the_logs_own(log: Path):
    with pytest.raises(AssertionError):
        event("late", time="never")
    assert lines(log) == []


def test_a_log_that_is_opened_again_goes_on_and_says_nothing_twice(log: Path, tmp_path: Path):
    event("started")
    open_log(log)
    event("stopped")
    assert [line["event"] for line in lines(log)] == ["started", "stopped"]
    close_log()
    event("late", client="nobody listens")
    assert len(lines(log)) == 2


def test_a_full_file_makes_room_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "_FILE_BYTES", 1_000)
    file = tmp_path / "oracle.jsonl"
    open_log(file)
    for number in range(100):
        event("refused", client="greedy", question=number)
    close_log()
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 4
    assert sum(one.stat().st_size for one in kept) <= 4_000
    assert lines(file)[-1]["question"] == 99


def test_without_a_file_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]):
    open_log()
    event("malformed", client="one", items=3)
    close_log()
    said = capsys.readouterr()
    assert json.loads(said.err)["items"] == 3
    assert said.out == ""


def test_before_a_log_is_opened_problems_still_reach_pythons_own(caplog: pytest.LogCaptureFixture):
    event("started")
    event("engine_lost", items=1)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.ERROR, "engine_lost")]
