"""A study with other values: as if its file had been written so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import StudyFileError
from optimizer.study_file.load import load_study
from optimizer.study_file.study import recorded_study, study_from_dict
from tests.support.studies import mapping

OWN = """
from optimizer import FLAT, LONG

PARAMETERS = {"lookback": (20, 2, 200)}
FEATURES = {"momentum": ("momentum", "lookback")}

def signal(momentum):
    return (LONG if momentum > 0.0 else FLAT), 0.001, 1.0
"""

CHANGES: list[dict[str, Any]] = [
    {"risk": {"kelly_fraction": 0.1}},
    {"search": {"objective": "max_drawdown"}},
    {"search": {"objective": ["sharpe", "max_drawdown"]}},
    {"search": {"objective": "max_drawdown", "direction": "maximize"}},
    {"costs": {"commission_bps": {"sweep": [1.0, 2.0]}}},
    {"account": {"cash_rate": 0.03}},
    {"risk": {"kelly_fraction": {"sweep": {"low": 0.1, "high": 0.5, "step": 0.1}}}},
    {"search": {"trials": 7, "objective": "sortino"}, "validation": {"holdout": 0.0}},
    {"strategy": {"lookback": 9}},
    {"classifier": {"name": "hmm", "lookback": 30}},
    {"study": {"seed": 9}, "costs": {"commission_bps": 4.0}},
    {"account": {"leverage": 2.0}, "instruments": {"AAA": {"multiplier": 5.0}}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_study_is_that_of_the_changed_file(change: dict[str, Any]) -> None:
    study = study_from_dict(mapping())
    before = study.to_dict()
    changed = study.with_(**change)
    assert changed.to_dict() == study_from_dict(mapping(**change)).to_dict()
    assert changed.to_dict() != before
    assert study.to_dict() == before


def test_what_was_chosen_does_not_follow() -> None:
    chosen = {"costs": {"commission_bps": 2.0, "maker_bps": 0.5}}
    changed = study_from_dict(mapping(**chosen)).with_(costs={"commission_bps": 3.0})
    assert changed.costs.settings["maker_bps"] == 0.5
    worst = study_from_dict(mapping(search={"direction": "minimize"}))
    assert worst.with_(search={"objective": "cagr"}).search.direction == ("minimize",)


def test_another_name_replaces_a_strategy_and_a_list_all_of_them() -> None:
    study = study_from_dict(mapping())
    other = study.with_(strategy={"name": "breakout", "width": 1.0})
    assert [one.name for one in other.strategies] == ["breakout"]
    both = study.with_(strategy=[{"name": "breakout"}, {"name": "momentum"}])
    assert [one.name for one in both.strategies] == ["breakout", "momentum"]
    with pytest.raises(StudyFileError, match=r"\[strategy\]: the study has 2; give a list"):
        both.with_(strategy={"name": "momentum", "lookback": 5})


def test_none_is_the_default() -> None:
    study = study_from_dict(mapping(costs={"slippage_bps": 9.0}))
    default = study_from_dict(mapping())
    assert study.with_(costs={"slippage_bps": None}).content_hash == default.content_hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"risk": {"kelly": 1}}, r"<study>: \[risk\] kelly: unknown key; valid: .*kelly_fraction"),
        ({"risk": {"kelly_fraction": -1}}, r"<study>: \[risk\] kelly_fraction: got -1"),
        ({"risk": 0.1}, r"<study>: \[risk\]: got 0.1; expected a table"),
        ({"risky": {"kelly_fraction": 1}}, r"<study>: \[risky\]: unknown table"),
        ({"search": {"trials": 0}}, r"<study>: \[search\] trials: got 0"),
    ],
)
def test_a_mistake_is_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyFileError, match=words) as caught:
        study_from_dict(mapping()).with_(**change)
    assert "\n" not in str(caught.value)


def test_paths_count_from_the_folder_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "one"\n[data]\npath = "bars.parquet"\n[strategy]\nname = "momentum"\n'
    )
    study = load_study(tmp_path / "study.toml").with_(data={"path": "more/bars.parquet"})
    assert study.data_path == (tmp_path / "more" / "bars.parquet").resolve()
    assert study.path is None
    assert study.source == "<study>"


def test_what_may_hold_a_password_is_kept() -> None:
    storage, url = "postgresql://me:secret@host/name", "postgresql://me:hidden@host/name"
    study = study_from_dict(mapping(search={"storage": storage}, analytics={"url": url}))
    changed = study.with_(study={"seed": 5})
    assert (changed.search.storage, changed.analytics.url) == (storage, url)
    assert "secret" not in repr(changed)


def test_a_strategy_of_ones_own_is_read_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    study = study_from_dict(mapping(), tmp_path)
    own = study.with_(strategy={"name": "mine", "path": "mine.py", "lookback": {"sweep": [5, 9]}})
    assert own.user_strategies[0].name == "mine"
    (tmp_path / "mine.py").unlink()  # it is not read again
    assert own.with_(risk={"kelly_fraction": 0.1}).user_strategies == own.user_strategies


def test_a_cluster_is_approved_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    approved: list[str] = []
    monkeypatch.setattr("optimizer.study_file.study.approve", lambda what, _: approved.append(what))
    record = study_from_dict(mapping()).to_dict()
    record["workers"] = {"backend": "dask", "address": "tcp://stranger:1"}
    study = recorded_study(record)
    study.with_(risk={"kelly_fraction": 0.1}, strategy={"lookback": 5})
    assert approved == []
    study.with_(workers={"address": "tcp://mine:1"})
    assert approved == ["dask tcp://mine:1"]


def test_a_study_shows_itself_in_a_line() -> None:
    assert repr(study_from_dict(mapping())) == "<Study small: momentum on bars.parquet>"
