"""The page of a combination."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest

import optimizer
from optimizer.errors import ExportError
from optimizer.review.replay import replay
from optimizer.store.export import read_content
from tests.support.command import barsweep
from tests.support.studies import changed
from tests.support.trading import BOOK_BARS, combined

SPLIT = 235
"""First bar of the holdout of these studies."""


@pytest.fixture(scope="module", params=["never", "month"])
def book(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return combined(tmp_path_factory.mktemp(request.param), request.param)


def text_of(page: str) -> str:
    """What a page says, a space for each tag."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_says_what_the_replay_found(book: Path) -> None:
    path = optimizer.write_report(book)
    assert path == book.with_suffix(".html")
    page = path.read_text()
    again, content = replay(book), read_content(book)
    assert again.verdict is not None
    text = text_of(page)
    for words in (again.verdict.headline, *(one.text for one in again.verdict.reasons)):
        assert words in text
    assert f"rebalance {content['rebalance']}" in text and "Shaded: the holdout" in text
    assert page.count("<polyline") == 2 and page.count("<rect") == 1
    assert "http:" not in page and "https:" not in page and "<script" not in page
    for number, one in enumerate(content["members"], 1):
        (own,) = one["export"]["sets"]
        name = one["export"]["study"]["name"]
        assert f"{number} {name} {own['set']} {own['strategy']} {one['share']:.2%}" in text
    costs = again.result.in_sample["costs_paid"] + (again.result.out_of_sample or {})["costs_paid"]
    rows = re.findall(r"(20\d\d) ([\d,]+\.\d\d) [\d,]+", text[text.index("costs, money") :])
    assert sum(float(paid.replace(",", "")) for _, paid in rows) == pytest.approx(costs, abs=0.02)


def test_nothing_of_a_member_in_the_holdout_is_on_it(book: Path, tmp_path: Path) -> None:
    """Other prices over the holdout: other figures of the whole, and the same words on the members."""
    schedule = read_content(book)["rebalance"]
    other = combined(tmp_path, schedule, bars=changed(BOOK_BARS, SPLIT, 0.4))
    parts = []
    for path in (book, other):
        text = text_of(optimizer.write_report(path, tmp_path / "page.html").read_text())
        start, stop = text.index("6 of 12 candidates"), text.index("Metrics metric")
        parts.append((text[start:stop], text[stop:]))
    assert parts[0][0] == parts[1][0] and parts[0][1] != parts[1][1]


def test_names_are_escaped_and_other_files_are_refused(book: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no report of one set; `barsweep tearsheet --set 2`"):
        optimizer.write_report(book, number=2)
    done = barsweep("report", book.name, "--out", "page.html", folder=book.parent)
    assert done.returncode == 0 and "report: page.html" in done.stdout, done.stderr
    bars = book.parent / "bars.parquet"
    moved = tmp_path / bars.name
    shutil.copy(bars, moved)
    shutil.copy(book, tmp_path / "book.json")
    done = barsweep("report", "book.json", "--data", moved, folder=tmp_path)
    assert done.returncode == 0 and (tmp_path / "book.html").is_file(), done.stderr
    done = barsweep("report", "one", "--data", "bars.parquet", folder=book.parent)
    assert done.returncode == 2 and "--data is for the file of a combination" in done.stderr
    other = book.parent / "other.json"
    shutil.copy(book, other)
    text = other.read_text().replace('"name": "one"', '"name": "<b>one</b>"')
    other.write_text(text)
    page = optimizer.write_report(other, tmp_path / "page.html").read_text()
    assert "&lt;b&gt;one&lt;/b&gt;" in page and "<b>one" not in page
