"""An exported set, backtested as it is: its recorded metrics to the bit, and the seal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.catalogue import METRICS
from optimizer.errors import BarsweepError, ExportError
from optimizer.review.backtest import backtest
from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, plain_values
from optimizer.sweep.backtest_result import BacktestResult
from tests.support.studies import changed, random_bars, small_study, write_bars

RATES = "date,rate\n2014-01-01,0.02\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with rules that its parameters do not say, sealed, and its best sets as JSON."""
    home = tmp_path_factory.mktemp("home")
    data = write_bars(home / "bars.parquet", random_bars())
    (home / "rates.csv").write_text(RATES)
    study = small_study(
        data,
        classifier={"name": "hmm", "market": "BBB", "train_bars": 60, "refit_bars": 60},
        risk={"allow_short": True, "allocation": "targets", "stop_loss": 0.04},
        costs={"commission_bps": {"AAA": 5.0, "default": 2.0}, "initial_cash": 50_000.0},
        account={"leverage": 2.0, "cash_rate": "rates.csv:rate"},
        instruments={"CCC": {"lot_size": 10.0, "multiplier": 2.0}},
    )
    run_study(study, out=home / "out", workers=1)
    export_sets(home / "out", top=3)
    return home


def content_of(home: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((home / "out" / "best.json").read_text())
    return content


def recorded(metrics: dict[str, float]) -> dict[str, Any]:
    return {name: plain_values(metrics[name]) for name in METRICS}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("form", ["path", "text", "content", "set"])
def test_an_exported_set_gives_its_recorded_metrics(
    form: str, number: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / "out")  # from where the paths in a mapping count
    path, content = home / "out" / "best.json", content_of(home)
    given: Any = {"path": path, "text": str(path), "content": content}.get(form)
    if given is None:
        result = backtest(random_bars(), content["sets"][number - 1])
    else:
        result = backtest(random_bars(), given, number=number)
    expected = content["sets"][number - 1]
    assert recorded(result.in_sample) == expected["in_sample"]
    assert expected["in_sample"]["n_trades"] > 5
    if number == 1:
        assert result.out_of_sample is not None
        assert recorded(result.out_of_sample) == expected["out_of_sample"]
    else:
        assert result.out_of_sample is None


def test_a_toml_export_too(home: Path) -> None:
    path = export_sets(home / "out", format="toml", out=home / "out" / "best.toml")
    result = backtest(random_bars(), path)
    assert recorded(result.in_sample) == content_of(home)["sets"][0]["in_sample"]


def sealed_part(result: BacktestResult) -> list[Any]:
    """All that a result shows."""
    tables = [result.fills, result.trades, result.positions, result.weights, result.orders_next]
    return [
        result.equity.to_dict(),
        result.returns.to_dict(),
        result.regimes.to_dict(),
        *(table.to_dict() for table in (*tables, result.stats, result.attribution())),
        result.open_positions,
        [line.y.tolist() for line in result.plot().data],
        repr(result),
        result.bars.content_hash,
    ]


def test_a_sealed_set_shows_nothing_of_the_holdout(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same set on bars that go another way from the holdout on shows the same."""
    split = json.loads((home / "out" / "study.json").read_text())["holdout_bar"]
    bars, content = random_bars(), content_of(home)
    shutil.copy(home / "rates.csv", tmp_path)
    monkeypatch.chdir(home / "out")
    one = backtest(bars, content, number=2)
    assert one.equity.index[-1] == pd.Timestamp(bars.timestamps[split - 1], tz="UTC")
    assert one.fills["timestamp"].max() <= one.equity.index[-1]
    other = changed(bars, split)
    content["data"]["hash"] = other.content_hash
    two = backtest(other, content, number=2)
    # Compared as text: NaN is not equal to itself.
    assert repr(sealed_part(one)) == repr(sealed_part(two))
    content["holdout"] = 0.0
    whole = backtest(other, content, number=2)
    assert len(whole.equity) > len(two.equity)


def test_an_unsealed_study_exports_the_holdout_of_all(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    folder = tmp_path / "home" / "out"
    unseal_study(folder)
    path = export_sets(folder, top=2, out=folder / "open.json")
    result = backtest(random_bars(), path, number=2)
    expected = json.loads(path.read_text())["sets"][1]["out_of_sample"]
    assert result.out_of_sample is not None
    assert recorded(result.out_of_sample) == expected


def test_a_setting_next_to_an_exported_set_is_refused(home: Path) -> None:
    path = home / "out" / "best.json"
    for name, value in (("holdout", 0.1), ("costs", {}), ("first_bar", 3), ("sizing", "weight")):
        settings: dict[str, Any] = {name: value}
        with pytest.raises(ExportError, match=f"^{name} = .*leave {name} out"):
            backtest(random_bars(), path, **settings)


def test_mistakes_are_one_line(home: Path, tmp_path: Path) -> None:
    path, content = home / "out" / "best.json", content_of(home)
    one = content["sets"][0]
    wrong: list[tuple[Any, str]] = [
        (tmp_path / "none.json", "none.json: no such file"),
        ({**content, "kind": "other"}, "<export>: not an export of barsweep"),
        ({**content, "schema_version": 0}, "<export>: schema_version: got 0"),
        ({**content, "sets": []}, "<export>: sets: has 0, asked for number 1"),
        ({**one, "terms": {}}, "<export>: not an export"),
        ({**one, "terms": 5}, "<export>: not an export"),
        ({**one, "parameters": {}}, "<export>: sets #1 parameters: .* is missing"),
    ]
    for given, words in wrong:
        with pytest.raises(BarsweepError, match=words) as caught:
            backtest(random_bars(), given)
        assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match="comes from other bars than these"):
        backtest(random_bars(seed=2), path)
    with pytest.raises(ExportError, match="sets: has 3, asked for number 4"):
        backtest(random_bars(), path, number=4)


def test_a_file_of_rates_is_looked_for_where_the_paths_count(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BarsweepError, match=r"rates\.csv"):
        backtest(random_bars(), content_of(home)["sets"][0])


OWN = """
from optimizer import FLAT, LONG

PARAMETERS = {"lookback": (20, 2, 200)}
FEATURES = {"momentum": ("momentum", "lookback")}

def signal(momentum):
    return (LONG if momentum > 0.0 else FLAT), 0.001, 1.0
"""


def test_a_strategy_of_ones_own_must_be_that_of_the_study(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "mine.py").write_text(OWN)
    own = {"name": "mine", "path": "mine.py", "lookback": {"sweep": [5, 9]}}
    study = small_study(data, risk={"max_exposure": 1.0, "volatility_lookback": 10}).with_(
        strategy=[own]
    )
    run_study(study, out=tmp_path / "out", workers=1)
    path = export_sets(tmp_path / "out")
    result = backtest(random_bars(), path)
    assert recorded(result.in_sample) == json.loads(path.read_text())["sets"][0]["in_sample"]
    (tmp_path / "mine.py").write_text(OWN.replace("0.0", "0.1"))
    with pytest.raises(ExportError, match="has changed since the study ran"):
        backtest(random_bars(), path)
