"""Both pages as a reader and a browser get them."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from graphdrl.oracle.questions import HIGHEST_GRADE, RelateAnswer
from graphdrl.relations.edges import Edges
from graphdrl.report import (
    RelationsContent,
    ReportContent,
    Traversal,
    curves_from_rows,
    write_relations_page,
    write_report,
)

_VOID = {"meta", "img", "br", "link", "input", "hr"}
_ATTACKS = ("<script>alert(1)</script>", '" onload="alert(1)', "{{ 7 * 7 }}", "$x^$ & co")


class _Page(HTMLParser):
    """Reads a page, holds it to balanced tags, and keeps what tests ask about."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        return [a[attribute] or "" for name, a in self.tags if attribute in a and tag in (None, name)]


def _write(content: ReportContent | RelationsContent, folder: Path) -> tuple[str, _Page]:
    path = folder / "page.html"
    write = write_report if isinstance(content, ReportContent) else write_relations_page
    assert write(content, path) == path
    assert [file.name for file in folder.iterdir()] == ["page.html"]
    html = path.read_text(encoding="utf-8")
    return html, _Page(html)


@pytest.fixture
def read(tmp_path):
    """Writes a content's page and reads it back."""
    return lambda content: _write(content, tmp_path)


@pytest.fixture(scope="module")
def whole_report(make_report, tmp_path_factory):
    return _write(make_report(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def whole_relations(make_relations, tmp_path_factory):
    return _write(make_relations(), tmp_path_factory.mktemp("relations"))


@pytest.fixture(scope="module", params=["report", "relations"])
def whole(request):
    """Either page, with all its parts, written once."""
    return request.getfixturevalue(f"whole_{request.param}")


@pytest.fixture(params=["report", "relations"])
def make(request, make_report, make_relations):
    """Makes the content of either page."""
    return make_report if request.param == "report" else make_relations


def test_a_page_is_whole_and_loads_nothing(whole):
    html, page = whole
    assert html.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    links = page.values("src") + page.values("href") + page.values("xlink:href")
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert set(re.findall(r"url\((.*?)\)", html)) == {"#hatch", "#head-plus", "#head-minus"}
    assert "@import" not in html
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_charts_inside_a_page_load_nothing_either(whole_report):
    _, page = whole_report
    charts = [src for src in page.values("src", "img") if src.startswith("data:image/svg+xml")]
    assert charts
    for chart in charts:
        svg = base64.b64decode(chart.split(",", 1)[1]).decode()
        assert set(re.findall(r"https?://[^\"' ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert all(link.startswith("#") for link in re.findall(r'xlink:href="(.*?)"', svg))


def test_every_picture_says_what_it_shows(whole):
    _, page = whole
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(attributes.get("aria-label") or "aria-hidden" in attributes for attributes in drawings)


def test_the_same_content_gives_the_same_bytes(make_report, make_relations, whole_report, whole_relations, read):
    assert read(make_report())[0] == whole_report[0]
    assert read(make_relations())[0] == whole_relations[0]


@pytest.mark.parametrize("attack", _ATTACKS)
def test_names_are_data(attack, make, read):
    content = make(title=attack, notes=(attack,))
    if isinstance(content, ReportContent):
        scores = replace(content.versions[-1].scores, attributes=(attack, *content.versions[-1].edges.attributes[1:]))
        edges = replace(content.versions[-1].edges, attributes=scores.attributes)
        last = replace(content.versions[-1], edges=edges, scores=scores, notes=(attack,))
        steps = content.curves["total"]
        content = replace(
            content, versions=(*content.versions[:-1], last), curves={attack: steps}, config={attack: attack}
        )
    else:
        names = (attack, *content.edges.attributes[1:])
        edges, scores = replace(content.edges, attributes=names), replace(content.scores, attributes=names)
        content = replace(content, edges=edges, scores=scores, skipped=((attack, attack),), facts={attack: attack})
    _, page = read(content)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert attack in page.text


def test_an_unresolved_edge_shows_no_weight_and_no_sign(make_relations, read):
    content = make_relations(num_attributes=2)
    weights = np.array([[0, -0.44], [0.77, 0]], np.float32)
    resolved = np.array([[False, False], [True, False]])
    low, high = weights - 0.2, weights + 0.2
    edges = replace(content.edges, weights=weights, low=low, high=high, resolved=resolved)
    html, page = read(replace(content, edges=edges))
    assert "bald → beard: unresolved, 95 % interval −0.64 to −0.24" in page.text
    assert "0.44" not in html
    assert ".44" not in html
    assert "+0.77" in page.text
    squares = [a for tag, a in page.tags if tag == "rect" and a.get("width") == "29"]
    assert [square["class"] for square in squares] == ["unresolved", "plus"]


def test_a_graph_without_resolved_edges_says_so(make, read):
    content = make(num_attributes=4)
    if isinstance(content, ReportContent):
        last = content.versions[-1]
        nothing = replace(last.edges, resolved=np.zeros((4, 4), bool))
        content = replace(content, versions=(replace(last, edges=nothing),))
    else:
        content = replace(content, edges=replace(content.edges, resolved=np.zeros((4, 4), bool)))
    _, page = read(content)
    assert "0 of 12 directed edges" in page.text
    assert "too few to tell any edge from 0" in page.text


def test_an_attribute_whose_grades_never_vary_has_no_estimate(make_relations, read):
    content = make_relations(num_attributes=3)
    weights, resolved = content.edges.weights.copy(), content.edges.resolved.copy()
    weights[0], weights[:, 0] = np.nan, np.nan
    resolved[0], resolved[:, 0] = False, False
    edges = replace(content.edges, weights=weights, low=weights, high=weights, strength=weights, resolved=resolved)
    html, page = read(replace(content, edges=edges))
    assert "bald → beard: no estimate, the grades do not vary" in page.text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html)


def test_the_true_relations_stand_beside_the_estimated_ones(whole_report):
    _, page = whole_report
    assert "Against the truth" in page.text
    assert "bald → beard: truly −0." in page.text
    assert "right sign" in page.text


def test_without_true_relations_nothing_is_held_against_them(make_report, read):
    _, page = read(make_report(truth=None))
    assert "Against the truth" not in page.text
    assert "truly" not in page.text
    assert "The true relations are not known" in page.text


def test_a_report_of_nothing_but_a_title(read):
    _, page = read(ReportContent("empty"))
    assert [tag for tag, _ in page.tags].count("h2") == 1
    assert "All figures are of this one run" in page.text


def test_one_attribute_has_no_relations(make, read):
    _, page = read(make(num_attributes=1))
    assert "There is but one attribute" in page.text


def test_forty_attributes_are_all_labelled(make, read):
    content = make(num_attributes=40)
    if isinstance(content, ReportContent):
        content = replace(content, curves={}, traversal=None)
    _, page = read(content)
    names = content.versions[-1].edges.attributes if isinstance(content, ReportContent) else content.edges.attributes
    assert all(page.texts.count(name) >= 3 for name in names)


def test_a_report_tells_what_the_run_left(whole_report):
    _, page = whole_report
    for said in (
        "76 800",
        "6 min 31 s",
        "DCI disentanglement 0.731",
        "Time waiting for the oracle 0.21 %",
        "Answers from store 120",
        "Sigma was shrunk to 0.1",
        "method.beta 1",
        "association, not causation",
        "The built-in oracle is a stand-in",
    ):
        assert said in page.text
    strips = [a for tag, a in page.tags if tag == "img" and "standard deviations" in (a["alt"] or "")]
    assert len(strips) == 24
    assert strips[0]["alt"] == "bald moved from −3 to +3 standard deviations"


def test_a_number_in_summary_and_oracle_is_shown_once(make_report, read):
    _, page = read(make_report(curves={}, num_attributes=2, num_latents=2, oracle={"questions_asked": 17}))
    assert page.texts.count("Questions asked") == 1
    assert "Questions asked 17" in page.text


def test_a_relations_page_tells_how_and_of_what(whole_relations):
    _, page = whole_relations
    for said in (
        "tiny-3f2a",
        "score-1",
        "somers_d",
        "holiday",
        "broken.png",
        "not an image",
        "Duration 41 s",
    ):
        assert said in page.text
    assert "glasses → smile" in page.text.replace(" → ", "→").replace("→", " → ")
    assert "high glasses, low smile" in page.text
    assert any("of 5" in alt for alt in page.values("alt", "img"))


def test_examples_whose_pixels_are_missing_are_left_out(make_relations, read):
    _, page = read(make_relations(images={}))
    assert not page.values("src", "img")
    assert "high glasses, low smile" in page.text


def test_a_long_list_of_skipped_files_is_cut(make_relations, read):
    _, page = read(make_relations(skipped=tuple((f"file-{i}.png", "not an image") for i in range(700))))
    assert "700 files could not be used; the first 500" in page.text
    assert "file-499.png" in page.text
    assert "file-500.png" not in page.text


def test_what_does_not_fit_together_is_refused(make_report):
    good = make_report(num_attributes=3, num_latents=3)
    with pytest.raises(ValueError, match=r"true weights of 3 attributes must be \(3, 3\)"):
        replace(good, truth=np.zeros((4, 4)))
    with pytest.raises(ValueError, match="give both or neither"):
        replace(good, originals=None)
    with pytest.raises(ValueError, match="must be uint8"):
        replace(good, originals=good.originals / 255, reconstructions=good.reconstructions / 255)
    with pytest.raises(ValueError, match=r"traversal images are \(3, 9\)"):
        replace(good.traversal, names=("bald",))
    with pytest.raises(ValueError, match="give one a node"):
        replace(good.traversal, notes=("one",))


def test_a_named_node_stands_before_those_without_a_name(make_report, read):
    images = np.zeros((3, 1, 8, 8, 3), np.uint8)
    traversal = Traversal(("factor_0", "bald", "factor_2"), (0.0,), images, ("", "+0.80 grades", ""))
    _, page = read(make_report(num_attributes=2, traversal=traversal))
    rows = [alt.split()[0] for alt in page.values("alt", "img") if "moved" in alt]
    assert rows == ["bald", "factor_0", "factor_2"]
    assert "+0.80 grades" in page.text
    assert "2 dimensions that no attribute names" in page.text


def test_a_write_that_fails_leaves_the_page_that_was_there(make_report, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(AttributeError):
        write_report(replace(make_report(), notes=(), versions=(None,), truth=None), path)
    assert path.read_text() == "before"


def test_curves_are_read_from_rows_that_need_not_be_whole():
    rows = [{"step": 1, "rank": 2.0}, {"step": 2, "rank": 1.0, "kl": 3.0, "phase": "warm"}]
    assert curves_from_rows(rows) == {"rank": ([1, 2], [2.0, 1.0]), "kl": ([2], [3.0])}


def beliefs_about(edges: Edges, weights: np.ndarray) -> RelateAnswer:
    """Beliefs of the given weights, in [-1, 1]."""
    strength, sign = (HIGHEST_GRADE * np.abs(weights)).astype(np.float32), np.sign(weights).astype(np.float32)
    return RelateAnswer(edges.attributes, strength, sign, np.zeros_like(sign), "a-believer", "belief-7", 2 * sign.size)


@pytest.fixture
def believed(make_relations):
    """A page of three attributes, five of whose six edges are resolved, and a model that believes otherwise of one."""
    content = make_relations(num_attributes=3)
    weights = np.array([[0, 0.4, 0.3], [0.5, 0, 0.6], [-0.2, 0.7, 0]], np.float32)
    resolved = ~np.eye(3, dtype=bool)
    resolved[0, 1] = False
    edges = replace(content.edges, weights=weights, low=weights - 0.1, high=weights + 0.1, resolved=resolved)
    thought = np.array([[0, -0.9, 0.004], [0.8, 0, -0.36], [-0.12, np.nan, 0]], np.float32)
    return replace(content, edges=edges, beliefs=beliefs_about(edges, thought))


def test_beliefs_stand_beside_each_measured_edge_in_its_own_direction(believed, read):
    html, _ = read(believed)
    section = _Page(html[html.index('<section id="beliefs">') : html.index('<section id="scores">')])
    assert "nothing of it was measured" in section.text
    rows = [" ".join(_Page(row).texts) for row in re.findall(r"<tr>.*?</tr>", html[html.index('id="beliefs"') :])[:7]]
    assert [" ".join(row.split()) for row in rows[1:6]] == [
        "blond → beard +0.70 +0.60 to +0.80 –",
        "beard → blond +0.60 +0.50 to +0.70 −0.36 opposite sign",
        "beard → bald +0.50 +0.40 to +0.60 +0.80 same sign",
        "bald → blond +0.30 +0.20 to +0.40 +0.00",
        "blond → bald −0.20 −0.30 to −0.10 −0.12 same sign",
    ]
    assert section.text.count("opposite sign") == 2, "in the table and in the sum"
    assert [attributes for tag, attributes in section.tags if attributes.get("class") == "bad"] == [{"class": "bad"}]
    assert "Of 5 resolved edges, belief has the same sign as the measurement in 2 and the opposite sign in 1" in (
        section.text
    )
    assert "a-believer, prompts belief-7" in section.text


def test_an_unresolved_edge_is_held_against_no_belief(believed, read):
    html, page = read(believed)
    assert "1 edge that the images leave unresolved" in page.text
    section = html[html.index('<section id="beliefs">') :]
    [row] = re.findall(r"<tr><th[^>]*>bald<span[^>]*>→</span>beard</th>.*?</tr>", section)
    assert _Page(row).text == "bald → beard unresolved +0.30 to +0.50 −0.90"


def test_beliefs_change_nothing_that_was_measured(believed, read):
    html, _ = read(believed)
    without, page = read(replace(believed, beliefs=None))
    before, after = html.split('<section id="beliefs">')[0], html.split('<section id="scores">')[1]
    assert before.replace('<a href="#beliefs">Beliefs</a>', "").split() == (
        without.split('<section id="scores">')[0].split()
    )
    assert after == without.split('<section id="scores">')[1]
    assert "elieve" not in page.text


def test_beliefs_about_other_attributes_are_refused(believed):
    other = replace(believed.beliefs, attributes=("hat", "beard", "blond"))
    with pytest.raises(ValueError, match="ask about the same"):
        replace(believed, beliefs=other)
