"""Survivors and contenders of a study, from Python, on the command line and in the report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest

from optimizer import contenders, find_sets, survivors
from optimizer.errors import StudyError
from optimizer.review.lists import parameter_ranges
from optimizer.review.records import judged, set_record, summarize
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.views.report import study_sections, write_report
from tests.support.command import barsweep
from tests.support.studies import random_bars, small_study, write_bars


@pytest.fixture(scope="module", autouse=True)
def own_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Other tests' studies on bars of the same days are no tries of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARSWEEP_LEDGER", str(tmp_path_factory.mktemp("ledger") / "ledger.db"))
        yield


@pytest.fixture(scope="module")
def trending(own_ledger: None, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study of 1,200 bars whose trends last long enough for some lookbacks, shorts included."""
    folder = tmp_path_factory.mktemp("trending")
    data = write_bars(folder / "bars.parquet", random_bars(1200, seed=4))
    study = small_study(
        data,
        strategy={"lookback": {"low": 20, "high": 240, "step": 20}},
        search={"trials": 24},
        risk={"allow_short": True},
        account={"leverage": 2.0},
    )
    return run_study(study, out=folder / "out", workers=1)


def test_survivors_have_a_small_p_of_their_own(trending: StudyResult) -> None:
    path = trending.folder.path
    found = survivors(path)
    rows = trending.results().set_index("set")
    assert 0 < len(found) < len(rows)
    statistics = rows.loc[found, "alpha_t"]
    assert (np.diff(statistics) <= 0.0).all()
    # Further steps can only find more than the first one, which is the p-value over all sets.
    ps = {number: set_record(path, int(number)).odds for number in rows.index}
    at_once = {number for number, one in ps.items() if one is not None and (one.p or 1.0) <= 0.05}
    assert at_once <= set(found.tolist())
    others = rows.drop(index=found.tolist())
    assert others.loc[others["feasible"], "alpha_t"].max() < statistics.min()


def test_contenders_are_around_the_winner(trending: StudyResult) -> None:
    path = trending.folder.path
    found = contenders(path)
    selection, _, _ = judged(trending.folder)
    assert selection is not None
    winner = selection.sets[0].number
    rows = trending.results().set_index("set")
    assert winner in found and 1 < len(found) == selection.n_contenders < len(rows)
    assert rows.loc[found, "sharpe"].mean() > rows.drop(index=found.tolist())["sharpe"].mean()
    ranges = parameter_ranges(path, found)
    assert set(ranges.index) >= {"momentum_lookback", "momentum_threshold"}
    for name, one in ranges.iterrows():
        values = rows[str(name)].loc[found.tolist()]
        assert (one["lowest"], one["highest"]) == (values.min(), values.max())
        assert one["median"] == values.median() and one["winner"] == rows[str(name)].loc[winner]
        assert one["share"] == len(set(values)) / rows[str(name)].nunique()


def test_the_command_shows_both_lists(trending: StudyResult, tmp_path: Path) -> None:
    path = trending.folder.path
    done = barsweep("show", path, "--survivors", "--top", 50, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(survivors(path))} set" in done.stdout.splitlines()[0]
    shown = find_sets(path, among=survivors(path).tolist(), top=50)["set"].to_list()
    assert set(shown) <= set(survivors(path).tolist())
    rows = re.findall(r"^ {0,4}(\d+) +-?\d", done.stdout, re.MULTILINE)
    assert [int(number) for number in rows] == shown
    done = barsweep("show", path, "--contenders", "--where", "n_trades>=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "contend: these bars cannot tell them from the winner" in done.stdout
    assert "share of values" in done.stdout


def test_the_ratio_to_expect_leads_every_table(trending: StudyResult, tmp_path: Path) -> None:
    path = trending.folder.path
    selection, _, _ = judged(trending.folder)
    assert selection is not None and selection.sharpe_to_expect is not None
    expected = selection.sharpe_to_expect
    done = barsweep("show", path, folder=tmp_path)
    heading = done.stdout.index("to expect")
    assert heading < done.stdout.index("in / out")
    assert f"Sharpe ratio to expect {expected:.2f} (95%: " in done.stdout
    assert summarize(path).sharpe_to_expect == expected
    assert "Sharpe to" in barsweep("list", path.parent, folder=tmp_path).stdout
    second = selection.sets[1]
    own = set_record(path, second.number).sharpe_to_expect
    assert own is not None and second.sharpe is not None and selection.sets[0].sharpe is not None
    assert own == pytest.approx(second.sharpe - selection.sets[0].sharpe + expected)
    compared = barsweep("compare", path, path, folder=tmp_path).stdout
    assert compared.index("Sharpe to expect") < compared.index("best in / out")
    page = write_report(path).read_text()
    assert page.index("Sharpe to expect") < page.index("In-sample / out-of-sample")
    assert f">{expected:.2f}<" in page and "Survivors and contenders" in page


def test_the_report_lists_the_first_survivors(
    trending: StudyResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = survivors(trending.folder.path).tolist()
    assert len(found) > 2
    listed = "Survivors, the largest t of alpha first: {}."
    page = write_report(trending.folder.path, tmp_path / "all.html").read_text()
    assert len(found) > 20 or listed.format(", ".join(map(str, found))) in page
    monkeypatch.setattr(study_sections, "MOST_SURVIVORS", 2)
    page = write_report(trending.folder.path, tmp_path / "two.html").read_text()
    assert f"first: {found[0]}, {found[1]}, and more, which" in page
    assert "barsweep show DIR --survivors" in page


def test_the_report_links_the_page_of_stress(trending: StudyResult, tmp_path: Path) -> None:
    path = tmp_path / "a study: 1"
    shutil.copytree(trending.folder.path, path)
    assert ">Stress</a>" not in write_report(path).read_text()
    (path / "stress.html").write_text("<p>stress</p>")
    (tmp_path / "pages").mkdir()
    for report in (path / "report.html", tmp_path / "pages" / "report.html"):
        page = write_report(path, report).read_text()
        (address,) = re.findall('<a href="([^"#]*)">Stress</a>', page)
        there = urlsplit(urljoin(report.as_uri(), address))
        assert Path(unquote(there.path)) == path / "stress.html"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--survivors", "--contenders"), "give --survivors or --contenders, not both"),
        ((3, "--contenders"), "give a SET, or options that choose among all sets"),
    ],
)
def test_options_that_exclude_each_other(
    options: tuple[object, ...], words: str, trending: StudyResult, tmp_path: Path
) -> None:
    done = barsweep("show", trending.folder.path, *options, folder=tmp_path)
    assert done.returncode == 2 and words in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--sort", "sharpee"), "sharpe"), (("--where", "oos_sharpe > 0"), "the holdout is sealed")],
)
def test_a_wrong_option_is_said_where_no_set_survives_too(
    options: tuple[str, ...], words: str, data: Path, tmp_path: Path
) -> None:
    dear = small_study(data, costs={"commission_bps": 300.0})
    path = run_study(dear, out=tmp_path / "out", workers=1).folder.path
    assert not len(survivors(path))
    done = barsweep("show", path, "--survivors", *options, folder=tmp_path)
    assert done.returncode == 2 and words in done.stderr


def test_an_unfinished_study_has_no_lists(trending: StudyResult, tmp_path: Path) -> None:
    path = tmp_path / "out"
    shutil.copytree(trending.folder.path, path)
    (path / "selection.json").unlink()
    for find in (survivors, contenders):
        with pytest.raises(StudyError, match=f"{path}: no verdict yet.*barsweep resume"):
            find(path)
    done = barsweep("show", path, "--survivors", folder=tmp_path)
    assert done.returncode == 2 and "no verdict yet" in done.stderr
