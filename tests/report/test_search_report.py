"""The page of a search: order and reasons, tables that read back, pictures where there is enough for them."""

import io
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from graphdrl.report import SearchReport, TrialRow, write_search_report
from graphdrl.report.importance import importance
from graphdrl.report.leaderboard import leaderboard_markdown, leaderboard_parquet
from graphdrl.report.search import ranked
from graphdrl.report.trials import places

PICTURES = ("curves.svg", "parallel.svg", "importance.svg")


def trial(name: str, objective: float | None = 0.5, **changes: Any) -> TrialRow:
    row: dict[str, Any] = {
        "name": name,
        "status": "finished",
        "values": {"training.learning_rate": 1e-3, "method": "gem"},
        "objective": objective,
        "step": 300,
        "seconds": 61.0,
        "metrics": {"dci_d": objective, "mig": 0.25},
        "folder": f"trials/{name}",
        "curve": () if objective is None else ((100, objective / 2), (300, objective)),
    }
    return TrialRow(**(row | changes))


def search(*rows: TrialRow, **changes: Any) -> SearchReport:
    said: dict[str, Any] = {
        "name": "learning-rate",
        "objective": "dci_d",
        "maximise": True,
        "algorithm": "optuna",
        "scheduler": "asha",
        "questions_asked": 6000,
        "seconds": 801.0,
        "notes": ("Measured on a validation draw.",),
    }
    return SearchReport(rows=rows, **(said | changes))


def rates(num: int, **changes: Any) -> list[TrialRow]:
    """Trials whose objective is the better, the lower the rate, whatever the batch is."""
    random = np.random.default_rng(0)
    return [
        trial(
            f"trial_{place:02d}",
            0.9 - 0.05 * place,
            values={"training.learning_rate": 1e-4 * 1.5**place, "training.batch": int(random.integers(8, 64))},
            **changes,
        )
        for place in range(num)
    ]


def test_best_first_and_at_the_end_with_their_reason_what_has_no_rank() -> None:
    board = places(
        search(
            trial("broke", 0.9, status="failed", error="the loss became NaN"),
            trial("died", None, status="failed", step=7),
            trial("early", 0.8, status="stopped", step=100),
            trial("good", 0.6),
            trial("none", None),
            trial("not-a-number", math.nan),
            trial("also good", 0.6),
            trial("best", 0.7),
            trial("poor", 0.1),
        )
    )
    assert [(place.rank, place.row.name) for place in board] == [
        (1, "best"),
        (2, "also good"),
        (2, "good"),
        (4, "poor"),
        (None, "early"),
        (None, "none"),
        (None, "not-a-number"),
        (None, "broke"),
        (None, "died"),
    ]
    assert [place.reason for place in board[4:]] == [
        "stopped by asha at step 100",
        "no dci_d was measured",
        "dci_d was not finite",
        "failed: the loss became NaN",
        "failed at step 7",
    ]


def test_lower_is_better_where_it_is() -> None:
    rows = (trial("a", 0.5), trial("b", 0.2), trial("c", 0.9))
    assert [row.name for row in ranked(search(*rows, maximise=False))] == ["b", "a", "c"]
    assert [row.name for row in ranked(search(*rows))] == ["c", "a", "b"]


def test_parquet_reads_back_what_was_written() -> None:
    rows = (
        trial("a", 0.5, values={"lr": 1e-3, "n": 2, "on": True, "method": "gem", "mixed": 1, "sizes": [1, 2]}),
        trial("b", math.nan, curve=(), values={"lr": 1, "n": np.int64(3), "on": False, "method": "x", "mixed": "one"}),
        trial("c", None, values={"lr": 0.25, "n": None}, metrics={}, status="failed", error="no | luck"),
    )
    table = pq.read_table(io.BytesIO(leaderboard_parquet(places(search(*rows)))))
    back = {row["name"]: row for row in table.to_pylist()}
    assert [row["name"] for row in table.to_pylist()] == ["a", "b", "c"]
    for row in rows:
        kept = back[row.name]
        for column in ("status", "step", "seconds", "error", "folder"):
            assert kept[column] == getattr(row, column)
        assert tuple((point["step"], point["objective"]) for point in kept["curve"]) == row.curve
        for key in ("lr", "n", "on", "method"):
            assert kept[f"values.{key}"] == row.values.get(key)
    assert (back["a"]["objective"], back["c"]["objective"]) == (0.5, None)
    assert math.isnan(back["b"]["objective"])
    assert (back["a"]["rank"], back["b"]["rank"]) == (1, None)
    assert [back[name]["values.mixed"] for name in "abc"] == ["1", '"one"', None]
    assert back["a"]["values.sizes"] == "[1, 2]"
    assert back["a"]["metrics.mig"] == 0.25
    assert back["c"]["metrics.mig"] is None
    assert {str(table.schema.field(f"values.{key}").type) for key in ("lr", "n", "on")} == {"double", "int64", "bool"}


def test_markdown_holds_one_line_a_trial_whatever_is_in_its_values() -> None:
    report = search(
        trial("a", 0.5, values={"prompt": "one | two\n<b>three</b>", "seed": 0}),
        trial("b|c", 0.25, values={"prompt": "four", "seed": 0}),
    )
    lines = leaderboard_markdown(report, places(report)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
    assert r"one \| two &lt;b>three&lt;/b>" in table[2]
    assert table[2].startswith("| 1 | a | 0.500 |")
    assert r"b\|c" in table[3]
    assert "The same in all trials: seed = 0." in lines
    assert "- Measured on a validation draw." in lines


def test_importance_finds_the_key_that_mattered() -> None:
    explained = importance(rates(12))
    assert next(iter(explained.shares)) == "training.learning_rate"
    assert sum(explained.shares.values()) == pytest.approx(1)
    assert explained.shares["training.learning_rate"] > 0.6
    assert explained.reason == ""
    assert importance(rates(12)) == explained


def test_importance_of_choices_of_any_kind() -> None:
    choices = [None, "gem", True, [1, 2]]
    rows = [
        trial(str(place), float(place % 4), values={"kind": choices[place % 4], "noise": place // 4})
        for place in range(12)
    ]
    assert next(iter(importance(rows).shares)) == "kind"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (rates(3), "there are 3"),
        ([*rates(3), trial("x", math.nan), trial("y", 0.3, status="stopped")], "there are 3"),
        ([trial(str(place), 0.1 * place) for place in range(5)], "No searched key had two values"),
        ([trial(str(place), 0.5, values={"lr": place}) for place in range(5)], "nothing to explain"),
    ],
)
def test_without_enough_there_is_no_importance_but_a_reason(rows: list[TrialRow], reason: str) -> None:
    explained = importance(rows)
    assert explained.shares == {}
    assert reason in explained.reason


def test_one_varied_key_has_all_the_importance_and_the_page_says_so() -> None:
    explained = importance([trial(str(place), 0.1 * place, values={"lr": place + 1}) for place in range(5)])
    assert explained.shares == {"lr": pytest.approx(1)}
    assert "Only lr was varied" in explained.reason


class Page(HTMLParser):
    """Text and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.addresses, self.tags = "", [], set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_whole_search_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    rows = [
        *rates(8),
        trial("early", 0.8, status="stopped", step=100),
        trial("<script>alert(1)</script>", None, status="failed", error="out of <memory>", curve=((100, math.nan),)),
    ]
    path = write_search_report(search(*rows), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "search.html"
    files = {file.name for file in path.parent.iterdir()}
    assert files == {"leaderboard.parquet", "leaderboard.md", "search.html", *PICTURES}
    page = Page(path.read_text())
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert sum(address.startswith("data:image/svg") for address in page.addresses) == 3
    for said in ("failed: out of <memory>", "stopped by asha at step 100", "trial_00", "6", "Measured on a validation"):
        assert said in page.text
    assert "best: trial_00" in (path.parent / "curves.svg").read_text()


def test_the_same_search_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [write_search_report(search(*rates(6)), tmp_path / name) for name in ("a", "b")]
    for name in ("search.html", "leaderboard.md", "leaderboard.parquet", *PICTURES):
        first, second = ((path.parent / name).read_bytes() for path in paths)
        assert first == second


def test_one_trial_makes_a_page_and_says_what_it_cannot_show(tmp_path: Path) -> None:
    write_search_report(search(*rates(5)), tmp_path)
    path = write_search_report(search(trial("only", 0.5)), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "search.html",
        "leaderboard.md",
        "leaderboard.parquet",
        "curves.svg",
    }, "pictures of an earlier writing are gone"
    text = Page(path.read_text()).text
    assert "No key had two values" in text
    assert "there are 1" in text


def test_a_search_of_which_nothing_is_left_says_so(tmp_path: Path) -> None:
    rows = [
        trial("a", None, status="failed", error="out of memory", values={"lr": 1}),
        trial("b", math.inf, values={"lr": 2.5}, curve=((100, math.inf), (200, math.nan))),
    ]
    text = Page(write_search_report(search(*rows), tmp_path).read_text()).text
    assert "none finished" in text
    assert "No trial was measured" in text
    assert "dci_d was not finite" in text
    assert not (tmp_path / "curves.svg").exists()


def test_values_of_every_kind_are_drawn(tmp_path: Path) -> None:
    rows = [
        trial("a", 0.1, values={"lr": 1e-4, "kind": None, "many": "word 0", "only": 1}),
        trial("b", 0.2, values={"lr": 1e-1, "kind": [1, 2], "many": "word 1"}),
        *(trial(f"c{at}", 0.3, values={"lr": 1e-2, "kind": True, "many": f"word {at}"}) for at in range(2, 20)),
    ]
    write_search_report(search(*rows, objective="elbo"), tmp_path)
    drawn = (tmp_path / "parallel.svg").read_text()
    assert "1, 2" in drawn
    assert "word 7" not in drawn, "of many choices the ends alone are labelled"


def test_no_trial_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no trial"):
        write_search_report(search(), tmp_path)
    with pytest.raises(ValueError, match="twice there: a"):
        write_search_report(search(trial("a"), trial("a")), tmp_path)
