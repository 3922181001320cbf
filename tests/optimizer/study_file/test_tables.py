import copy
import datetime
import json
import os
import pickle
import sys
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.catalogue import (
    CLASSIFIERS,
    COSTS,
    METRIC_DIRECTIONS,
    METRICS,
    RISK,
    Parameter,
    column,
)
from optimizer.errors import StudyFileError
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.load import load_study
from optimizer.study_file.settings import MAX_SWEEP, Choices, Range, Sweep, read_setting
from optimizer.study_file.study import Study, study_from_dict

STUDIES = Path(__file__).parents[3] / "studies"
MINIMAL = """
[study]
name = "s"
[data]
path = "bars.parquet"
[strategy]
name = "momentum"
"""


def write(folder: Path, text: str, name: str = "q.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def mapping(**tables: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "study": {"name": "s"},
        "data": {"path": "bars.parquet"},
        "strategy": {"name": "momentum"},
    }
    for table, keys in tables.items():
        if isinstance(keys, dict) and isinstance(content.get(table), dict):
            content[table] = {**content[table], **keys}
        else:
            content[table] = keys
    return content


def refused(**tables: Any) -> str:
    with pytest.raises(StudyFileError) as caught:
        study_from_dict(mapping(**tables))
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert "pydantic" not in message
    assert message.startswith("<study>: ")
    return message.removeprefix("<study>: ")


def strategy(**keys: Any) -> Any:
    return study_from_dict(mapping(strategy=keys)).strategies[0].settings


# --- Defaults and forms -----------------------------------------------------------------------


def test_minimal_file_takes_every_default(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, MINIMAL))
    assert study.name == "s"
    assert study.seed == 0
    assert study.path == tmp_path / "q.toml"
    assert study.data_path == (tmp_path / "bars.parquet").resolve()
    assert study.strategies[0].settings == {"lookback": 60, "threshold": 0.0}
    assert [classifier.name for classifier in study.classifiers] == ["none"]
    assert study.risk.settings == {p.name: p.default for p in RISK}
    assert study.risk.allow_short is False
    assert (study.risk.sizing, study.risk.allocation) == ("kelly", "additions")
    assert study.costs.settings == {p.name: p.default for p in COSTS}
    assert study.costs.per_symbol == {}
    assert (study.account.leverage, study.account.cash_rate) == (1.0, 0.0)
    assert study.account.risk_free_rate == 0.0
    assert study.instruments == {}
    assert study.costs.fill == "next_open"
    assert study.search.objective == ("sharpe",)
    assert study.search.direction == ("maximize",)
    assert study.search.tile_value == "best"
    assert study.validation.holdout == 0.2
    assert (study.workers.count, study.workers.backend) == (0, "loky")


def test_forms_of_a_setting() -> None:
    assert strategy(lookback=5)["lookback"] == 5
    assert strategy(lookback={"low": 2, "high": 9})["lookback"] == Range(2, 9, 1)
    assert strategy(lookback={"low": 2, "high": 9, "log": True})["lookback"] == Range(
        2, 9, 1, log=True
    )
    assert strategy(threshold={"low": 0, "high": 1})["threshold"] == Range(0.0, 1.0)
    assert strategy(lookback={"choices": [9, 3]})["lookback"] == Choices((9, 3))
    assert strategy(threshold={"sweep": [0.5, 0]})["threshold"] == Sweep((0.0, 0.5))
    swept = strategy(threshold={"sweep": {"low": 0, "high": 0.3, "step": 0.1}})["threshold"]
    assert swept.values == (0.0, 0.1, 0.2, 0.3)


def test_whole_number_for_a_float_becomes_a_float() -> None:
    for value in (1, np.int64(1), np.float32(1.0)):
        threshold = strategy(threshold=value)["threshold"]
        assert type(threshold) is float
        assert threshold == 1.0


def test_direction_follows_the_metric() -> None:
    for metric in METRICS:
        study = study_from_dict(mapping(search={"objective": metric}))
        assert study.search.direction == (METRIC_DIRECTIONS[metric],)
    minimized = {m for m in METRICS if METRIC_DIRECTIONS[m] == "minimize"}
    assert minimized == {
        "volatility", "max_drawdown", "turnover", "costs_paid", "ruined", "kurtosis", "liquidations",
        "losing_streak", "drawdown_duration", "ulcer_index",
    }  # fmt: skip
    study = study_from_dict(
        mapping(search={"objective": ["sharpe", "max_drawdown"], "sampler": "nsga2"})
    )
    assert study.search.direction == ("maximize", "minimize")
    study = study_from_dict(mapping(search={"objective": "exposure", "direction": "minimize"}))
    assert study.search.direction == ("minimize",)


def test_no_metric_has_the_name_of_a_parameter() -> None:
    owners = {**{n: s.parameters for n, s in BUILT_IN.items()}, **CLASSIFIERS, "risk": RISK}
    owners["costs"] = COSTS
    columns = [column(owner, p.name) for owner, parameters in owners.items() for p in parameters]
    assert len(set(columns)) == len(columns)
    assert not set(columns) & set(METRICS)


def test_times_are_one_value_in_every_form() -> None:
    for start in (datetime.date(2015, 1, 31), "2015-01-31"):
        assert study_from_dict(mapping(data={"start": start})).data.start == "2015-01-31"
    moment = datetime.datetime(2015, 1, 31, 9, 30)
    for start in (moment, "2015-01-31 09:30", "2015-01-31T09:30:00"):
        assert study_from_dict(mapping(data={"start": start})).data.start == "2015-01-31T09:30:00"
    for same in ("2015-01-31", datetime.date(2015, 1, 31)):
        study_from_dict(mapping(data={"start": same, "end": same}))
    # 23:00 in New York is after 03:00 UTC of the next day, 02:00 is not.
    data = {"timezone": "America/New_York", "end": "2015-02-01T03:00:00+00:00"}
    study_from_dict(mapping(data={**data, "start": "2015-01-31T22:00"}))
    assert "is after" in refused(data={**data, "start": "2015-01-31T22:01"})


def test_symbols_are_one_study_in_every_order() -> None:
    one, other = (
        study_from_dict(mapping(data={"symbols": symbols}))
        for symbols in (["B", "C9", "C10", "a"], ["a", "C10", "B", "C9"])
    )
    assert one.data.symbols == other.data.symbols == ("B", "C10", "C9", "a")
    assert one.to_dict() == other.to_dict()
    assert (one.content_hash, one.space_hash) == (other.content_hash, other.space_hash)


def test_how_bars_are_annualized() -> None:
    plain = study_from_dict(mapping())
    assert (plain.data.bars_per_year, plain.data.bar) == (None, None)
    assert not {"bars_per_year", "bar"} & plain.to_dict()["data"].keys()
    said = study_from_dict(mapping(data={"bars_per_year": 252, "bar": "60min"}))
    assert said.to_dict()["data"] == {
        **plain.to_dict()["data"],
        "bars_per_year": 252.0,
        "bar": "1h",
    }
    same = study_from_dict(mapping(data={"bars_per_year": 252.0, "bar": " 1 H"}))
    assert same.content_hash == said.content_hash != plain.content_hash
    assert study_from_dict(said.to_dict()).to_dict() == said.to_dict()


# --- Ranges -----------------------------------------------------------------------------------


@given(
    low=st.integers(0, 5000),
    step=st.integers(1, 3000),
    n_steps=st.integers(0, 60),
    places=st.integers(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_range_holds_the_decimal_numbers(low: int, step: int, n_steps: int, places: int) -> None:
    scale = Decimal(10) ** -places
    expected = tuple(float((low + i * step) * scale) for i in range(n_steps + 1))
    parameter = Parameter("x", float, 0.0, 0.0, 1e9, "signal", "")
    raw = {"low": expected[0], "high": expected[-1], "step": float(step * scale)}
    span = read_setting(parameter, raw)
    assert isinstance(span, Range)
    assert span.n_values == n_steps + 1
    assert span.values() == expected
    assert [span.nearest_index(value) for value in expected] == list(range(n_steps + 1))
    # The same range with a high end summed in floats.
    total = expected[0]
    for _ in range(n_steps):
        total += raw["step"]
    assert read_setting(parameter, {**raw, "high": total}) == span


def test_range_prints_as_written() -> None:
    assert [str(v) for v in Range(0.0, 0.5, 0.1).values()] == [
        "0.0", "0.1", "0.2", "0.3", "0.4", "0.5",
    ]  # fmt: skip
    assert Range(1e-6, 1.0, 1e-6).n_values == 1_000_000
    assert Range(1e-6, 1.0, 1e-6).value(999_999) == 1.0
    assert Range(3, 3, 1).values() == (3,)
    assert Range(0.5, 0.5).n_values == 1
    assert Range(0.0, 0.5).n_values is None


def test_high_off_the_grid_names_the_nearest_two() -> None:
    message = refused(strategy={"lookback": {"low": 10, "high": 25, "step": 10}})
    assert message.startswith("[strategy] lookback: high = 25 ")
    assert "use high = 20 or 30" in message
    message = refused(strategy={"threshold": {"sweep": {"low": 0.0, "high": 0.25, "step": 0.1}}})
    assert "use high = 0.2 or 0.3" in message
    # The third step would be out of the parameter's bounds by a rounding.
    parameter = Parameter("x", float, 0.0, 0.0, 0.3, "signal", "")
    with pytest.raises(Exception, match=r"use high = 0\.20000000000000004$"):
        read_setting(parameter, {"low": 0.0, "high": 0.3, "step": 0.10000000000000002})
    # 1.2 would be out of the parameter's bounds.
    message = refused(risk={"stop_loss": {"low": 0.0, "high": 1.0, "step": 0.6}})
    assert message.endswith("use high = 0.6")


# --- Refusals ---------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("tables", "parts"),
    [
        # Unknown names
        (
            {"strategy": {"lokback": 3}},
            [
                '[strategy] lokback: unknown key; did you mean "lookback"? ',
                "valid: lookback, threshold",
            ],
        ),
        ({"strategy": {"zzz": 3}}, ["[strategy] zzz: unknown key; valid: lookback, threshold"]),
        ({"stratgy": {}}, ['[stratgy]: unknown table; did you mean "strategy"?', "valid: study, "]),
        ({"study": {"sed": 1}}, ['[study] sed: unknown key; did you mean "seed"?', "name, seed"]),
        ({"data": {"symbol": []}}, ["[data] symbol: unknown key", '"symbols"']),
        (
            {"risk": {"kely_fraction": 1}},
            ["[risk] kely_fraction: ", '"kelly_fraction"', "lot_size"],
        ),
        ({"risk": {"alow_short": True}}, ["[risk] alow_short: ", '"allow_short"']),
        ({"costs": {"comission_bps": 1}}, ["[costs] comission_bps: ", '"commission_bps"']),
        ({"search": {"trails": 3}}, ["[search] trails: unknown key", '"trials"']),
        ({"validation": {"hold_out": 0}}, ["[validation] hold_out: unknown key", '"holdout"']),
        ({"workers": {"cuont": 0}}, ["[workers] cuont: unknown key", '"count"']),
        ({"strategy": {"name": "Momentun"}}, ['[strategy] name: got "Momentun"', '"momentum"?']),
        ({"strategy": {"name": 3}}, ["[strategy] name: got 3; valid: momentum, "]),
        ({"classifier": {"name": "hhm"}}, ['[classifier] name: got "hhm"', '"hmm"?', "svm"]),
        ({"classifier": {"name": "hmm", "horizon": 5}}, ["[classifier] horizon: unknown key"]),
        ({"classifier": {"name": "none", "market": "SPY"}}, ["[classifier] market: unknown key"]),
        (
            {"classifier": [{"name": "none"}, {"name": "svm", "horizn": 5}]},
            ["[[classifier]] #2 horizn: unknown key", '"horizon"'],
        ),
        # Missing
        ({"study": {"name": ""}}, ['[study] name: got ""']),
        ({"strategy": [{"lookback": 3}]}, ["[strategy] name: missing; valid: momentum, "]),
        # Shapes
        ({"strategy": "momentum"}, ['[strategy]: got "momentum"; expected a table']),
        ({"strategy": ["momentum"]}, ['[strategy]: got "momentum"; expected a table']),
        ({"strategy": []}, ["[strategy]: an empty list"]),
        ({"classifier": []}, ["[classifier]: an empty list"]),
        ({"risk": 3}, ["[risk]: got 3; expected a table"]),
        ({"search": [1]}, ["[search]: got [1]; expected a table"]),
        (
            {"strategy": [{"name": "momentum"}, {"name": "momentum"}]},
            ['[[strategy]] #2 name: "momentum" is listed twice', "{choices = [...]}"],
        ),
        (
            {"classifier": [{"name": "hmm"}, {"name": "none"}, {"name": "hmm"}]},
            ['[[classifier]] #3 name: "hmm" is listed twice'],
        ),
        # Values of parameters
        (
            {"strategy": {"lookback": 1.5}},
            ["[strategy] lookback: got 1.5; expected a whole number"],
        ),
        ({"strategy": {"lookback": 60.0}}, ["[strategy] lookback: got 60.0", "whole number"]),
        ({"strategy": {"lookback": True}}, ["[strategy] lookback: got true"]),
        ({"strategy": {"threshold": False}}, ["[strategy] threshold: got false", "a number"]),
        ({"strategy": {"lookback": "60"}}, ['[strategy] lookback: got "60"; expected a number']),
        ({"strategy": {"lookback": 0}}, ["[strategy] lookback: got 0", "1 to 100000"]),
        ({"strategy": {"threshold": -0.1}}, ["[strategy] threshold: got -0.1", "0 to 100"]),
        ({"strategy": {"threshold": NAN}}, ["[strategy] threshold: got nan", "finite"]),
        ({"strategy": {"threshold": INF}}, ["[strategy] threshold: got inf", "finite"]),
        ({"strategy": {"threshold": 10**400}}, ["[strategy] threshold: got 1000", "finite"]),
        ({"strategy": {"threshold": 10**9000}}, ["[strategy] threshold: got a number too long"]),
        (
            {"strategy": {"lookback": [10, 20]}},
            ["got the list [10, 20]", "{choices = [10, 20]}", "{sweep = [10, 20]}"],
        ),
        ({"risk": {"allow_short": 1}}, ["[risk] allow_short: got 1; expected true or false"]),
        (
            {"risk": {"allow_short": {"sweep": [True]}}},
            ["[risk] allow_short: got {sweep = [true]}"],
        ),
        # Ranges
        ({"strategy": {"lookback": {"low": 9, "high": 3}}}, ["low = 9 is above high = 3"]),
        ({"strategy": {"lookback": {"low": 9}}}, ["lookback: no high in {low = 9}"]),
        ({"strategy": {"lookback": {}}}, ["lookback: no low in {}"]),
        ({"strategy": {"lookback": {"low": 1, "hgh": 3}}}, ["unknown key hgh", '"high"']),
        ({"strategy": {"lookback": {"low": 0, "high": 3}}}, ["lookback: got 0", "1 to 100000"]),
        (
            {"strategy": {"lookback": {"low": 1, "high": 3.5}}},
            ["lookback: got 3.5", "whole number"],
        ),
        ({"strategy": {"lookback": {"low": 1, "high": 3, "step": 0}}}, ["lookback: step = 0"]),
        ({"strategy": {"lookback": {"low": 1, "high": 3, "step": 0.5}}}, ["lookback: got 0.5"]),
        ({"strategy": {"threshold": {"low": 0, "high": 1, "step": -0.5}}}, ["step = -0.5"]),
        ({"strategy": {"threshold": {"low": 0, "high": 1, "step": NAN}}}, ["threshold: got nan"]),
        ({"strategy": {"threshold": {"low": 0.0, "high": INF}}}, ["threshold: got inf"]),
        ({"strategy": {"lookback": {"low": 1, "high": 3, "log": 1}}}, ["log = 1; expected true"]),
        (
            {"strategy": {"lookback": {"low": 1, "high": 3, "step": 1, "log": True}}},
            ["lookback: log and step together"],
        ),
        (
            {"strategy": {"threshold": {"low": 0.0, "high": 1.0, "log": True}}},
            ["threshold: log needs a low above 0, got low = 0.0"],
        ),
        # Choices and sweeps
        ({"strategy": {"lookback": {"choices": []}}}, ["lookback: an empty list"]),
        ({"strategy": {"lookback": {"choices": 3}}}, ["lookback: got 3; expected a list"]),
        ({"strategy": {"lookback": {"choices": [3, 3]}}}, ["lookback: 3 is listed twice"]),
        ({"strategy": {"threshold": {"choices": [1, 1.0]}}}, ["threshold: 1.0 is listed twice"]),
        ({"strategy": {"threshold": {"sweep": [0.0, -0.0]}}}, ["threshold: 0.0 is listed twice"]),
        ({"strategy": {"lookback": {"choices": [3, True]}}}, ["lookback: got true"]),
        ({"strategy": {"lookback": {"choices": [3], "low": 3}}}, ["unknown key low", "choices"]),
        ({"strategy": {"threshold": {"sweep": []}}}, ["threshold: an empty list"]),
        ({"strategy": {"threshold": {"sweep": [0, NAN]}}}, ["threshold: got nan"]),
        ({"strategy": {"threshold": {"sweep": [0, 101]}}}, ["threshold: got 101"]),
        ({"strategy": {"threshold": {"sweep": {"low": 0, "high": 1}}}}, ["threshold: no step in"]),
        (
            {"strategy": {"lookback": {"sweep": {"low": 1, "high": 9, "log": True}}}},
            ["log in a sw"],
        ),
        ({"strategy": {"lookback": {"sweep": {"choices": [3]}}}}, ["unknown key choices"]),
        (
            {"strategy": {"threshold": {"sweep": {"low": 0, "high": 100, "step": 1e-9}}}},
            ["threshold: 100000000001 swept values; at most 1000000"],
        ),
        # One value for the whole study
        ({"risk": {"lot_size": {"sweep": [1, 2]}}}, ["[risk] lot_size: got {sweep = [1, 2]}; one"]),
        (
            {"risk": {"ewma_decay": {"low": 0.1, "high": 0.9}}},
            ["[risk] ewma_decay: got {low", "one"],
        ),
        # Other tables
        ({"study": {"name": "a/b"}}, ['[study] name: got "a/b"', "file name"]),
        ({"study": {"name": ".."}}, ['[study] name: got ".."']),
        ({"study": {"name": "-x"}}, ['[study] name: got "-x"']),
        ({"study": {"name": "a\n"}}, ['[study] name: got "a\\n"']),
        ({"study": {"name": "x" * 101}}, ["[study] name: got ", "up to 100"]),
        ({"study": {"seed": -1}}, ["[study] seed: got -1"]),
        ({"study": {"seed": 1.0}}, ["[study] seed: got 1.0; expected a whole number"]),
        ({"study": {"seed": True}}, ["[study] seed: got true"]),
        ({"data": {"path": " "}}, ['[data] path: got " "']),
        ({"data": {"path": 3}}, ["[data] path: got 3"]),
        (
            {"data": {"symbols": "SPY QQQ"}},
            ['got "SPY QQQ"; expected a list, such as ["SPY", "QQQ"]'],
        ),
        ({"data": {"symbols": []}}, ["[data] symbols: an empty list"]),
        ({"data": {"symbols": ["A", "A"]}}, ['[data] symbols: "A" is listed twice']),
        ({"data": {"symbols": ["A", 3]}}, ["[data] symbols: got 3"]),
        ({"data": {"start": "soon"}}, ['[data] start: got "soon"; expected a date']),
        ({"data": {"start": 2015}}, ["[data] start: got 2015; expected a date"]),
        ({"data": {"end": datetime.time(9)}}, ["[data] end: got 09:00:00; expected a date"]),
        (
            {"data": {"start": "2016-01-01", "end": "2015-01-01"}},
            ["[data] start: 2016-01-01 is aft"],
        ),
        (
            {"data": {"align": "iner"}},
            ['[data] align: got "iner"; did you mean "inner"?', "strict"],
        ),
        ({"data": {"members": 3}}, ["[data] members: got 3"]),
        ({"data": {"timezone": "Mars"}}, ['[data] timezone: got "Mars"; no such time zone']),
        ({"data": {"timezone": "../x"}}, ['[data] timezone: got "../x"']),
        ({"data": {"bars_per_year": 0}}, ["[data] bars_per_year: got 0", "0.01 to 1000000000"]),
        ({"data": {"bars_per_year": "252"}}, ['[data] bars_per_year: got "252"', "a number"]),
        ({"data": {"bars_per_year": NAN}}, ["[data] bars_per_year: got nan", "finite"]),
        ({"data": {"bar": 5}}, ["[data] bar: got 5; expected a text"]),
        ({"data": {"bar": "5m"}}, ['[data] bar: got "5m"; expected a duration such as "5min"']),
        ({"data": {"bar": "1M"}}, ['[data] bar: got "1M"; expected a duration']),
        (
            {"data": {"symbols": ["SPY"]}, "classifier": {"name": "hmm", "market": "SPX"}},
            ['[classifier] market: "SPX" is not among the symbols'],
        ),
        ({"classifier": {"name": "hmm", "market": 3}}, ["[classifier] market: got 3"]),
        ({"costs": {"commission_bps": -1}}, ["[costs] commission_bps: got -1", "0 to 5000"]),
        ({"costs": {"fill": "open"}}, ['[costs] fill: got "open"', "next_open, close"]),
        ({"costs": {"initial_cash": 0}}, ["[costs] initial_cash: got 0"]),
        ({"costs": {"initial_cash": NAN}}, ["[costs] initial_cash: got nan"]),
        (
            {"search": {"sampler": "tpa"}},
            ['[search] sampler: got "tpa"; did you mean "tpe"?', "qmc"],
        ),
        ({"search": {"trials": 0}}, ["[search] trials: got 0"]),
        ({"search": {"batch": 1.5}}, ["[search] batch: got 1.5"]),
        ({"search": {"objective": "sharp"}}, ['[search] objective: got "sharp"', '"sharpe"?']),
        ({"search": {"objective": []}}, ["[search] objective: an empty list"]),
        (
            {"search": {"objective": ["cagr", "cagr"]}},
            ['[search] objective: "cagr" is listed twice'],
        ),
        ({"search": {"direction": "up"}}, ['[search] direction: got "up"', "maximize, minimize"]),
        (
            {"search": {"objective": ["cagr", "sharpe"], "direction": "maximize"}},
            ["[search] direction: 1 directions for 2 objectives"],
        ),
        (
            {"search": {"objective": ["cagr", "sharpe"], "sampler": "cmaes"}},
            ['[search] sampler: "cmaes" takes one objective, got 2', "nsga2"],
        ),
        (
            {"search": {"tile_value": "bst"}},
            ['[search] tile_value: got "bst"', '"best"?', "plateau"],
        ),
        ({"search": {"tile_value": {"quantle": 0.5}}}, ["unknown key quantle", '"quantile"']),
        ({"search": {"tile_value": {"quantile": 1.5}}}, ["[search] tile_value: got 1.5", "0 to 1"]),
        ({"search": {"tile_value": {}}}, ["[search] tile_value: got {}"]),
        ({"validation": {"holdout": 0.9}}, ["[validation] holdout: got 0.9", "below 0.9"]),
        ({"validation": {"holdout": -0.1}}, ["[validation] holdout: got -0.1"]),
        ({"workers": {"count": -1}}, ["[workers] count: got -1"]),
        ({"workers": {"backend": ""}}, ['[workers] backend: got ""']),
        ({"workers": {"tile_seconds": 0}}, ["[workers] tile_seconds: got 0"]),
        ({"workers": {"backend": "dask"}}, ["[workers] address: missing", "dask scheduler"]),
        ({"workers": {"backend": "ray"}}, ["[workers] address: missing", "ray start --head"]),
        ({"workers": {"address": "tcp://h:1"}}, ['[workers] address: got "tcp://h:1"', "loky"]),
        (
            {"search": {"sampler": "grid"}, "risk": {"kelly_fraction": {"low": 0.1, "high": 0.2}}},
            ["[risk] kelly_fraction: {low = 0.1, high = 0.2}", "give it a step"],
        ),
        # Constraints
        ({"search": {"constraints": "n_trades > 3"}}, ["[search] constraints: got", "a list"]),
        (
            {"search": {"constraints": [3]}},
            ["[search] constraints #1: got 3; expected two operands"],
        ),
        ({"search": {"constraints": ["n_trades"]}}, ['constraints #1: got "n_trades"']),
        (
            {"search": {"constraints": ["n_trades => 3"]}},
            ['got "n_trades => 3"', "<=, <, >=, >, =="],
        ),
        ({"search": {"constraints": ["1 < sharpe < 3"]}}, ["expected two operands"]),
        ({"search": {"constraints": ["sharpe > __import__('os')"]}}, ["expected two operands"]),
        ({"search": {"constraints": ["sharpe > 1e999"]}}, ["finite numbers"]),
        ({"search": {"constraints": ["sharpe > 0", "1 < 2"]}}, ["constraints #2", "two numbers"]),
        (
            {"search": {"constraints": ["max_drawdwn <= 0.25"]}},
            ['unknown "max_drawdwn"', 'did you mean "max_drawdown"?', "valid: "],
        ),
        (
            {"search": {"constraints": ["momentum_lokback > 3"]}},
            ['did you mean "momentum_lookback"?'],
        ),
        ({"search": {"constraints": ["sma_cross_fast > 3"]}}, ['unknown "sma_cross_fast"']),
        (
            {
                "strategy": [{"name": "momentum"}, {"name": "breakout"}],
                "search": {"constraints": ["momentum_lookback < breakout_lookback"]},
            },
            ["compares two strategies", "never applies"],
        ),
    ],
)
def test_refusals(tables: dict[str, Any], parts: list[str]) -> None:
    message = refused(**tables)
    for part in parts:
        assert part in message
    assert "more error" not in message


def test_missing_tables_and_keys() -> None:
    for missing, text in {
        "study": '[study]: missing; add [study] with name = "my_study"',
        "data": '[data]: missing; add [data] with path = "bars.parquet"',
        "strategy": "[strategy]: missing; add [strategy] with name = one of momentum, ",
    }.items():
        content = mapping()
        del content[missing]
        with pytest.raises(StudyFileError) as caught:
            study_from_dict(content)
        assert text in str(caught.value)
    for table, key in (("study", "name"), ("data", "path"), ("strategy", "name")):
        content = mapping()
        del content[table][key]
        with pytest.raises(StudyFileError) as caught:
            study_from_dict(content)
        assert f"[{table}] {key}: missing" in str(caught.value)


def test_first_error_in_the_file_is_reported_and_the_rest_counted() -> None:
    content = {
        "workers": {"count": -1},
        "risk": {"lot": 1, "max_exposure": -1},
        **mapping(strategy={"lookback": 0}),
    }
    with pytest.raises(StudyFileError) as caught:
        study_from_dict(content)
    message = str(caught.value)
    assert "[workers] count: got -1" in message
    assert message.endswith("(and 3 more errors)")
    # An unknown key is nearer to the mistake than the key that is missing because of it.
    with pytest.raises(StudyFileError) as caught:
        study_from_dict(mapping(data={}) | {"data": {"pth": "x"}})
    assert '[data] pth: unknown key; did you mean "path"?' in str(caught.value)
    assert str(caught.value).endswith("(and 1 more error)")
    # Within one table: the order of the file too.
    message = refused(strategy={"threshold": -1, "lookback": 0})
    assert message.startswith("[strategy] threshold: got -1")


def test_messages_stay_on_one_line() -> None:
    message = refused(strategy={"a\nb\u2028c": 1})
    assert "a\\nb\\u2028c" in message
    assert len(refused(strategy={"lookback": "x" * 10_000})) < 300


@pytest.mark.parametrize("content", [[], None, 3, {1: 2}, {"study": {1: 2}}, {"strategy": None}])
def test_anything_but_tables_is_refused_by_the_same_error(content: Any) -> None:
    with pytest.raises(StudyFileError):
        study_from_dict(content)


# --- Files ------------------------------------------------------------------------------------


def test_errors_name_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "lokback = 3\n")
    with pytest.raises(StudyFileError) as caught:
        load_study(file)
    assert str(caught.value) == (
        f'{file}: [strategy] lokback: unknown key; did you mean "lookback"? '
        "valid: lookback, threshold"
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[study]\nname = \n", "line 2, column 8"),
        ('[study]\nname = "a', "line 2, column 10"),
        ("[study]\nx = [1,\n", "line 3, column 1"),
        ("a = 1\na = 2\n", "line 2, column 6"),
    ],
)
def test_syntax_errors_name_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(StudyFileError) as caught:
        load_study(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {place}: not TOML: ")
    assert message.splitlines() == [message]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("[risk]\na = 1\na = 2", '"a" stands twice in its table; leave one out'),
        ("[risk]\na = 1\n[risk]\nb = 2", "put all its keys under one [risk]"),
        ('[strategy]\nname = "a"\n[strategy]', "one [strategy], or write [[strategy]] for each"),
        ("[data]\npath = \u201cbars.csv\u201d", 'quotes must be plain, as in "bars.parquet"'),
        ("[risk]\nallow_short = True", "write true"),
        ("[risk]\nallow_short = no", "write false"),
        ('[data]\npath = "C:\\data\\bars.csv"', r"write paths with / or \\"),
        ("[study]\nseed: 1", "write seed = value"),
        ("[risk]\na = {sweep = [0,05, 0,1]}", "numbers a decimal point and no leading zero"),
        ("[study]\nseed = 01", "numbers a decimal point and no leading zero"),
        ('{"kind": "barsweep parameter sets"}', "is for `barsweep replay`"),
    ],
)
def test_syntax_errors_come_with_the_fix(tmp_path: Path, text: str, advice: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        load_study(write(tmp_path, text))
    assert advice in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="no such file"):
        load_study(tmp_path / "none.toml")
    with pytest.raises(StudyFileError, match="a folder; expected a study file"):
        load_study(tmp_path)
    with pytest.raises(StudyFileError, match="cannot be read"):
        load_study(write(tmp_path, MINIMAL) / "below")
    with pytest.raises(StudyFileError, match="cannot be read"):
        load_study("a\0b")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[study]\nname = "caf\xe9"\n')
    with pytest.raises(StudyFileError, match=r"latin\.toml: line 2: not UTF-8"):
        load_study(latin)
    with pytest.raises(StudyFileError, match="not TOML: nested too deep"):
        load_study(write(tmp_path, "a = " + "[" * sys.getrecursionlimit()))


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"\[study\]: missing.*\(and 2 more errors\)"):
        load_study(write(tmp_path, ""))


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_study(file).name == "s"


# --- Constraints ------------------------------------------------------------------------------


def test_constraints_are_read_and_classified() -> None:
    study = study_from_dict(
        mapping(
            strategy=[{"name": "sma_cross"}],
            search={
                "constraints": [
                    "sma_cross_fast<sma_cross_slow",
                    "max_drawdown <= 2.5e-1",
                    " n_trades>=30 ",
                    "turnover < max_exposure",
                    "-.0 == stop_loss",
                ]
            },
        )
    )
    constraints = study.search.constraints
    assert [str(constraint) for constraint in constraints] == [
        "sma_cross_fast < sma_cross_slow",
        "max_drawdown <= 0.25",
        "n_trades >= 30",
        "turnover < max_exposure",
        "0 == stop_loss",
    ]
    assert [constraint.on_result for constraint in constraints] == [False, True, True, True, False]
    assert constraints[3].names == ("turnover", "max_exposure")


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        ("<", [True, False, False, False]),
        ("<=", [True, True, False, False]),
        ("==", [False, True, False, False]),
        (">=", [False, True, True, False]),
        (">", [False, False, True, False]),
    ],
)
def test_constraints_hold_for_arrays_and_numbers(sign: str, expected: list[bool]) -> None:
    study = study_from_dict(mapping(search={"constraints": [f"sharpe {sign} 1"]}))
    constraint = study.search.constraints[0]
    values = np.array([0.5, 1.0, 1.5, np.nan])
    assert constraint.holds({"sharpe": values}).tolist() == expected
    assert [bool(constraint.holds({"sharpe": float(value)})) for value in values] == expected


# --- Hash and round trip ----------------------------------------------------------------------

FULL = """
# A comment
[study]
seed = 3
name = "full"
[data]
path = "bars.parquet"
symbols = ["A", "B"]
start = 2015-01-31
[[strategy]]
name = "sma_cross"
fast = {low = 2, high = 50, step = 2}
slow = {low = 10, high = 200, log = true}
band = {sweep = {low = 0.0, high = 0.1, step = 0.05}}
[[strategy]]
name = "momentum"
threshold = {low = 0.1, high = 0.5}
[classifier]
name = "hmm"
market = "A"
lookback = {choices = [60, 30]}
[risk]
allow_short = true
kelly_fraction = {sweep = [0.25, 0.1]}
max_exposure = 1
[costs]
commission_bps = 3
[search]
sampler = "nsga2"
objective = ["sharpe", "max_drawdown"]
tile_value = {quantile = 0.75}
constraints = ["n_trades>=30"]
[validation]
holdout = 0
[workers]
count = 2
"""
SAME = """
study = {name = "full", seed = 3}
workers = {count = 7, backend = "threading"}
[validation]
holdout = 0.0
[search]
constraints = [
    "n_trades  >=  30.0",
]
tile_value.quantile = 0.75
objective = ["sharpe", "max_drawdown"]
direction = ["maximize", "minimize"]
sampler = "nsga2"
trials = 64
[costs]
commission_bps = 3.0
slippage_bps = 2.0
[risk]
max_exposure = 1.0
kelly_fraction.sweep = [0.1, 0.25]
allow_short = true
stop_loss = 0.0
[[classifier]]
name = "hmm"
lookback = {choices = [60, 30]}
market = "A"
train_bars = "2y"
[[strategy]]
band = {sweep = {step = 0.05, low = 0, high = 0.1}}
slow = {log = true, low = 10, high = 200}
fast = {step = 2, high = 50, low = 2}
name = "sma_cross"
[[strategy]]
threshold = {low = 0.1, high = 0.5, log = false}
name = "momentum"
lookback = 60
[data]
start = "2015-01-31"
symbols = ["A", "B"]
path = "bars.parquet"
timezone = "UTC"
"""


def test_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    full = load_study(write(tmp_path, FULL))
    same = load_study(write(tmp_path / "elsewhere", SAME, "other.toml"))
    assert full.content_hash == same.content_hash
    assert len(full.content_hash) == 64
    assert full.workers != same.workers
    assert full.data_path != same.data_path


def test_hash_changes_with_everything_that_can_change_a_result() -> None:
    base = study_from_dict(mapping()).content_hash
    changes: list[dict[str, Any]] = [
        {"study": {"name": "t"}},
        {"study": {"seed": 1}},
        {"data": {"path": "other.parquet"}},
        {"data": {"symbols": ["A"]}},
        {"data": {"start": "2015-01-31"}},
        {"data": {"align": "strict"}},
        {"strategy": {"lookback": 61}},
        {"strategy": {"lookback": {"sweep": [60]}}},
        {"strategy": {"lookback": {"choices": [60]}}},
        {"classifier": {"name": "hmm"}},
        {"classifier": {"name": "hmm", "market": "A"}},
        {"risk": {"allow_short": True}},
        {"risk": {"max_exposure": 0.9}},
        {"costs": {"fill": "close"}},
        {"search": {"sampler": "random"}},
        {"search": {"trials": 65}},
        {"search": {"batch": 8}},
        {"search": {"direction": "minimize"}},
        {"search": {"tile_value": "median"}},
        {"search": {"constraints": ["n_trades > 1"]}},
        {"validation": {"holdout": 0.1}},
    ]
    hashes = {study_from_dict(mapping(**change)).content_hash for change in changes}
    assert len(hashes | {base}) == len(changes) + 1
    for change in (
        {"workers": {"count": 3}},
        {"workers": {"tile_seconds": 5}},
        {"workers": {"backend": "dask", "address": "tcp://h:1"}},
    ):
        assert study_from_dict(mapping(**change)).content_hash == base


def test_round_trip(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, FULL))
    content = study.to_dict()
    again = study_from_dict(json.loads(json.dumps(content)), tmp_path)
    assert again.to_dict() == content
    assert again.content_hash == study.content_hash
    assert again.data_path == study.data_path
    assert again.workers == study.workers
    assert content["strategy"][0]["slow"] == {"low": 10, "high": 200, "log": True}
    assert content["strategy"][0]["band"] == {"sweep": {"low": 0.0, "high": 0.1, "step": 0.05}}
    assert content["risk"]["kelly_fraction"] == {"sweep": [0.1, 0.25]}
    assert content["search"]["tile_value"] == {"quantile": 0.75}
    assert pickle.loads(pickle.dumps(study)) == study


def test_mapping_is_left_as_it_was() -> None:
    content = mapping(strategy={"threshold": {"sweep": [0.5, 0.1]}}, search={"objective": "cagr"})
    before = copy.deepcopy(content)
    study_from_dict(content)
    assert content == before


def test_mapping_of_any_kind_is_taken() -> None:
    frozen = types.MappingProxyType(
        {table: types.MappingProxyType(keys) for table, keys in mapping().items()}
    )
    assert study_from_dict(frozen).content_hash == study_from_dict(mapping()).content_hash


def test_study_is_frozen() -> None:
    study = study_from_dict(mapping())
    with pytest.raises(ValueError, match="frozen"):
        study.search.trials = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        study.risk = study.risk  # type: ignore[misc]


def test_override(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, FULL))
    assert study.override() == study
    changed = study.override(seed=9, trials=5, workers=1)
    assert (changed.seed, changed.search.trials, changed.workers.count) == (9, 5, 1)
    assert (changed.path, changed.data_path) == (study.path, study.data_path)
    assert study.override(workers=1).content_hash == study.content_hash
    assert study.seed == 3
    with pytest.raises(StudyFileError, match=r"q\.toml: \[search\] trials: got 0"):
        study.override(trials=0)


def test_data_path_counts_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies").mkdir()
    write(tmp_path / "studies", MINIMAL)
    monkeypatch.chdir(tmp_path)
    study = load_study(os.path.join("studies", "q.toml"))
    assert study.source == os.path.join("studies", "q.toml")
    assert study.data_path == tmp_path.resolve() / "studies" / "bars.parquet"
    assert study_from_dict(mapping(data={"path": "/x/y.csv"})).data_path == Path("/x/y.csv")


# --- Any mapping ------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(["low", "high", "step", "log", "choices", "sweep", "name", "lookback"])
VALUES = st.recursive(
    SCALARS | st.integers(1, 50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)
TABLE_KEYS = [
    *(
        "seed",
        "path",
        "symbols",
        "start",
        "end",
        "align",
        "members",
        "timezone",
        "lookback",
        "threshold",
    ),
    *("market", "kelly_fraction", "lot_size", "fill", "trials", "objective", "direction"),
    *("tile_value", "constraints", "holdout", "count", "allow_short"),
]


@given(
    table=st.sampled_from(
        ["study", "data", "strategy", "classifier", "risk", "search", "costs", "validation"]
    ),
    keys=st.dictionaries(st.sampled_from(TABLE_KEYS), VALUES, max_size=2) | VALUES,
)
@settings(max_examples=300, deadline=None)
def test_any_content_is_a_study_or_a_one_line_refusal(table: str, keys: Any) -> None:
    content = mapping(**{table: keys})
    try:
        study = study_from_dict(content)
    except StudyFileError as error:
        message = str(error)
    else:
        message = ""
        assert study_from_dict(study.to_dict()).content_hash == study.content_hash
    assert len(message.splitlines()) <= 1


# --- The studies that come with the project ---------------------------------------------------


@pytest.mark.parametrize("name", ["quickstart", "event_flow", "crypto_intraday"])
def test_bundled_studies(name: str) -> None:
    study = load_study(STUDIES / f"{name}.toml")
    assert isinstance(study, Study)
    assert study.name == name
    assert study.data_path.is_file()
    assert study.validation.holdout > 0


def test_sweep_limit_is_inclusive() -> None:
    swept = {"low": 1, "high": MAX_SWEEP + 1, "step": 1}
    parameter = Parameter("x", int, 1, 1, 10**9, "signal", "")
    with pytest.raises(Exception, match="swept values"):
        read_setting(parameter, {"sweep": swept})
    setting = read_setting(parameter, {"sweep": {**swept, "high": MAX_SWEEP}})
    assert isinstance(setting, Sweep)
    assert len(setting.values) == MAX_SWEEP
