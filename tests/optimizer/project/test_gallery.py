"""Every study of the gallery is valid, runs, does not look ahead, and replays bit for bit."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import optimizer
from optimizer.errors import StudyError
from optimizer.flow.look_ahead import look_ahead_check
from optimizer.project.new import templates, write_project
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from tests.support.command import barsweep

ROOT = Path(__file__).resolve().parents[3]
GALLERY = ROOT / "optimizer" / "project" / "gallery"
IDEAS = [
    *("bollinger", "daily_filter", "intraday", "levels"),
    *("macd", "pairs", "rotation", "timed_exit"),
]
ENDS = {"us_daily.parquet": "2008-06-30", "crypto_1h.parquet": "2023-03-15"}
"""To which the bars are cut."""


def test_the_gallery_has_the_eight_ideas() -> None:
    """They are what ``barsweep new --template`` offers, what ``make gallery`` runs, and one copy."""
    assert templates() == IDEAS
    assert sorted(one.stem for one in (ROOT / "studies" / "gallery").glob("*.toml")) == IDEAS
    assert (ROOT / "studies" / "gallery").resolve() == GALLERY
    page = (ROOT / "docs" / "gallery.md").read_text()
    for name in IDEAS:
        assert f"| [`{name}`](#{name}) |" in page
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        picture = ROOT / "docs" / "gallery" / f"{name}.png"
        assert f"](gallery/{name}.png)" in section and picture.stat().st_size < 60_000
        verdict = section.rpartition(".png)")[2]
        assert re.search(
            r"([Nn]ot\s+distinguishable\s+from\s+luck|Promising)\s+\(p\s+0\.\d+\)", verdict
        )
        for file in GALLERY.glob(f"{name}.*"):
            language = {".toml": "toml", ".py": "python"}[file.suffix]
            assert f"```{language}\n{file.read_text()}```\n" in page, f"{file.name} in the page"


@pytest.mark.parametrize("name", IDEAS)
def test_a_study_of_the_gallery(name: str, tmp_path: Path) -> None:
    """On the first bars, with the parameter sets of one trial."""
    folder = tmp_path / "project"
    written = write_project(folder, name)
    assert sorted(folder.iterdir()) == sorted(written)
    study = load_study(folder / "study.toml")
    study = study.with_(
        data={"end": ENDS[study.data.path]},
        search={"sampler": "random", "trials": 1, "constraints": []},
    )
    bars = optimizer.load_bars(study.data_path, symbols=study.data.symbols, end=study.data.end)
    assert [str(one) for one in look_ahead_check(study, bars)] == []
    out = tmp_path / "out"
    run_study(study, out=out, workers=1)
    replayed = replay(export_sets(out), events=True)
    assert replayed.differences == ()
    assert replayed.parity is not None
    assert replayed.parity.differences == ()
    assert replayed.parity.n_fills >= 4


def test_a_template_works_at_once(tmp_path: Path) -> None:
    """The study that the command names is valid as it is."""
    made = barsweep("new", "mine", "--template", "rotation", folder=tmp_path)
    assert made.stdout.endswith("next:  barsweep run mine/study.toml --out mine/out\n")
    checked = barsweep("check", "study.toml", folder=tmp_path / "mine")
    assert checked.returncode == 0
    assert "study.toml: valid" in checked.stdout


def test_an_unknown_template_is_refused(tmp_path: Path) -> None:
    """In one line with the valid ones, and nothing is written."""
    done = barsweep("new", "mine", "--template", "pair", folder=tmp_path)
    wanted = 'error: --template = "pair": unknown; did you mean "pairs"? valid: ' + ", ".join(IDEAS)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{wanted}\n")
    with pytest.raises(StudyError, match="--template"):
        write_project(tmp_path / "mine", "../gallery/pairs")
    assert list(tmp_path.iterdir()) == []


def test_the_hourly_bars_are_those_of_five_minutes() -> None:
    """``crypto_1h.parquet`` is ``crypto_5m.parquet`` in bars of an hour, but for empty hours."""
    columns = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    fine = pd.read_parquet(ROOT / "studies" / "data" / "crypto_5m.parquet")
    groups = fine.set_index("timestamp").groupby("symbol").resample("1h")
    expected = groups.agg(columns).dropna().reset_index()
    pd.testing.assert_frame_equal(pd.read_parquet(GALLERY / "crypto_1h.parquet"), expected)
