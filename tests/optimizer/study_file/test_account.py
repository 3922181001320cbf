"""Costs, account, instruments and sizing of a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.catalogue import COSTS, RISK, SIZING_PARAMETERS
from optimizer.errors import DataError, StrategyError, StudyFileError
from optimizer.strategies.user import read_strategy
from optimizer.study_file.account import RateFile, with_rate_paths
from optimizer.study_file.bars import load_study_rates
from optimizer.study_file.costs import fixed_costs
from optimizer.study_file.searched import Searched
from optimizer.study_file.settings import Choices, Range, Sweep
from optimizer.study_file.space import Branch, build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.study_file.symbols import symbol_terms

SYMBOLS = ["SPY", "BRK.B"]


def study_of(base: Path | str = ".", **tables: Any) -> Study:
    content = {
        "study": {"name": "s"},
        "data": {"path": "bars.parquet", "symbols": SYMBOLS},
        "strategy": {"name": "momentum"},
    }
    return study_from_dict({**content, **tables}, base)


def branch_of(**tables: Any) -> Branch:
    return build_space(study_of(**tables)).branches[0]


# --- Costs ------------------------------------------------------------------------------------


def test_each_cost_takes_every_form() -> None:
    for one in COSTS:
        ticks = {s: {"tick_size": 0.01} for s in SYMBOLS}
        for raw, setting in (
            (0.5, 0.5),
            ({"low": 0.0, "high": 0.5}, Range(0.0, 0.5)),
            ({"choices": [0.5, 0.0]}, Choices((0.5, 0.0))),
            ({"sweep": [0.5, 0.0]}, Sweep((0.0, 0.5))),
        ):
            limit = {"entry": "limit"} if one.name == "maker_bps" else {}
            study = study_of(costs={one.name: raw}, instruments=ticks, risk=limit)
            assert study.costs.settings[one.name] == setting
            assert study.costs.per_symbol == {}


def test_a_table_of_symbols_holds_for_the_whole_study() -> None:
    costs = study_of(costs={"commission_bps": {"BRK.B": 3, "default": 5}, "impact": {"SPY": 0.5}})
    assert costs.costs.settings["commission_bps"] == 5.0
    assert costs.costs.settings["impact"] == 0.0  # the parameter's own default
    assert costs.costs.per_symbol == {
        "commission_bps": {"BRK.B": 3.0},
        "maker_bps": {"BRK.B": 3.0},  # which is left out
        "impact": {"SPY": 0.5},
    }
    assert [costs.costs.value("commission_bps", s) for s in SYMBOLS] == [5.0, 3.0]
    terms = symbol_terms(costs, SYMBOLS)
    assert {name: values.tolist() for name, values in terms.costs.items()} == {
        "commission_bps": [5.0, 3.0],
        "maker_bps": [5.0, 3.0],
        "impact": [0.5, 0.0],
    }


def test_a_maker_pays_the_commission_unless_it_is_given() -> None:
    def maker(**costs: Any) -> Any:
        return study_of(costs=costs).costs.settings["maker_bps"]

    assert maker() == 1.0
    assert maker(commission_bps=3) == 3.0
    assert maker(commission_bps=3, maker_bps=-0.5) == -0.5
    varied = {"commission_bps": {"sweep": [1.0, 2.0]}}
    study_of(costs=varied)  # nothing reads it
    with pytest.raises(
        StudyFileError, match=r"\[costs\] maker_bps: missing: commission_bps varies"
    ):
        study_of(costs=varied, risk={"entry": "limit"})
    assert "maker_bps" not in study_of(costs=varied).to_dict()["costs"]


def test_a_default_alone_is_a_number() -> None:
    one, other = (study_of(costs={"commission_bps": raw}) for raw in ({"default": 2.0}, 2))
    assert one.costs == other.costs
    assert one.content_hash == other.content_hash


def test_costs_come_last_among_searched_and_swept() -> None:
    one = branch_of(
        costs={"slippage_bps": {"sweep": [2, 1]}, "spread_bps": {"low": 0, "high": 2, "step": 1}},
        risk={
            "kelly_fraction": {"sweep": [0.1, 0.2]},
            "max_weight": {"choices": [0.2, 0.1]},
            "max_positions": {"sweep": [0, 3]},
        },
        strategy={"name": "momentum", "threshold": {"sweep": [0.0, 0.1]}},
    )
    assert list(one.swept) == [
        "momentum_threshold",
        "kelly_fraction",
        "max_positions",
        "slippage_bps",
    ]
    assert [searched.name for searched in one.searched] == ["max_weight", "spread_bps"]
    assert one.searched[1] == Searched("spread_bps", "float", 0.0, 2.0, 1.0)
    assert one.columns[-len(COSTS) :] == tuple(cost.name for cost in COSTS)
    lanes = one.lanes({"max_weight": 0.1, "spread_bps": 1.0})
    assert lanes["slippage_bps"].tolist() == [1.0, 2.0] * 8
    assert one.n_lanes == 16
    assert lanes["commission_bps"].tolist() == [1.0] * 16


def test_constraints_and_grids_know_costs() -> None:
    study_of(search={"constraints": ["slippage_bps > commission_bps"]})
    with pytest.raises(StudyFileError, match=r"\[costs\] impact: .* continuous"):
        study_of(costs={"impact": {"low": 0, "high": 1}}, search={"sampler": "grid"})


def test_costs_that_hold_for_all_sets() -> None:
    given_costs = {"commission_bps": 1, "impact": {"SPY": 1.0}, "spread_bps": {"sweep": [1]}}
    assert fixed_costs({**given_costs, "fill": "close"}) == {"commission_bps", "impact"}


# --- Account and instruments --------------------------------------------------------------------


def test_terms_are_in_the_order_of_the_symbols() -> None:
    study = study_of(
        risk={"lot_size": 10},
        account={"borrow_bps_year": {"BRK.B": 900}},
        instruments={"SPY": {"tick_size": 0.01, "multiplier": 50}, "BRK.B": {"lot_size": 0.5}},
    )
    terms = symbol_terms(study, ["BRK.B", "SPY"])
    assert terms.lot_sizes.tolist() == [0.5, 10.0]
    assert terms.tick_sizes.tolist() == [0.0, 0.01]
    assert terms.multipliers.tolist() == [1.0, 50.0]
    assert terms.borrow_bps_year.tolist() == [900.0, 100.0]
    assert terms.costs == {}


def test_rates_are_numbers_or_columns_of_a_file(tmp_path: Path) -> None:
    account = study_of(account={"cash_rate": r"C:\data\r.csv:3 months"}).account
    assert account.cash_rate == RateFile(r"C:\data\r.csv", "3 months")
    assert account.risk_free_rate == account.cash_rate
    assert study_of(account={"cash_rate": 0.01, "risk_free": 0.02}).account.risk_free_rate == 0.02
    (tmp_path / "bills.csv").write_text("date,bill\n2020-01-01,0.01\n2020-01-03,0.02\n")
    study = study_of(tmp_path, account={"cash_rate": 0.005, "risk_free": "bills.csv:bill"})
    days = np.array(["2020-01-02", "2020-01-03", "2020-01-04"], dtype="datetime64[ns]")
    cash, free = load_study_rates(study, days)
    assert cash.tolist() == [0.005] * 3
    assert free.tolist() == [0.01, 0.02, 0.02]
    with pytest.raises(DataError, match=r"bills\.csv: the first rate is dated 2020-01-01"):
        load_study_rates(study, np.array(["2019-12-31"], dtype="datetime64[ns]"))


def test_paths_of_rates_can_be_moved() -> None:
    account = study_of(account={"cash_rate": "r.csv:a", "risk_free": 0.1}).account.to_dict()
    moved = with_rate_paths(account, lambda path: f"/elsewhere/{path}")
    assert moved == {**account, "cash_rate": "/elsewhere/r.csv:a"}


# --- Round trip ---------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    values = st.floats(0, 1)
    by_symbol = st.dictionaries(st.sampled_from([*SYMBOLS, "default"]), values, min_size=1)
    forms = st.one_of(
        values,
        by_symbol,
        st.lists(values, min_size=1, unique=True).map(lambda v: {"sweep": v}),
        st.lists(values, min_size=1, unique=True).map(lambda v: {"choices": v}),
    )
    rates = st.one_of(values, st.just("rates.csv:bill"))
    costs = draw(st.dictionaries(st.sampled_from([p.name for p in COSTS]), forms))
    return {
        "costs": costs,
        "account": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "leverage": st.floats(1, 3),
                    "cash_rate": rates,
                    "risk_free": rates,
                    "borrow_bps_year": st.one_of(values, by_symbol),
                },
            )
        ),
        "instruments": {
            symbol: {"tick_size": 0.01, **draw(st.sampled_from([{}, {"lot_size": 2.0}]))}
            for symbol in SYMBOLS
        },
        "risk": {
            "sizing": draw(st.sampled_from(["kelly", "weight", "equal_weight"])),
            "allocation": draw(st.sampled_from(["additions", "targets"])),
            "entry": "limit" if "maker_bps" in costs else "market",
        },
    }


@given(given_tables=tables())
@settings(max_examples=80, deadline=None)
def test_a_study_comes_back_from_its_mapping(given_tables: dict[str, Any]) -> None:
    study = study_of(**given_tables)
    written = study.to_dict()
    again = study_from_dict(written)
    assert again.to_dict() == written
    assert again.content_hash == study.content_hash
    for name in ("risk", "costs", "account", "instruments"):
        assert getattr(again, name) == getattr(study, name)


def test_everything_that_can_change_a_result_is_hashed() -> None:
    base = study_of().content_hash
    changes: list[dict[str, Any]] = [
        {"risk": {"sizing": "weight"}},
        {"risk": {"allocation": "targets"}},
        {"risk": {"max_weight": 0.5}},
        {"costs": {"impact": 0.1}},
        {"costs": {"impact": {"SPY": 0.1}}},
        {"costs": {"impact": {"BRK.B": 0.1}}},
        {"account": {"leverage": 2.0}},
        {"account": {"risk_free": 0.0}},
        {"account": {"cash_rate": "a.csv:b"}},
        {"account": {"borrow_bps_year": {"SPY": 1.0}}},
        {"instruments": {"SPY": {"multiplier": 2.0}}},
    ]
    hashes = [study_of(**change).content_hash for change in changes]
    assert len({base, *hashes}) == len(changes) + 1
    assert study_of(costs={"impact": 0}, account={"leverage": 1}).content_hash == base


# --- Refusals -----------------------------------------------------------------------------------

REFUSALS: list[tuple[dict[str, Any], list[str]]] = [
    ({"risk": {"sizing": "wieght"}}, ['[risk] sizing: got "wieght"; did you mean "weight"?']),
    ({"risk": {"sizing": ["kelly"]}}, ["[risk] sizing: got"]),
    ({"risk": {"allocation": "target"}}, ['[risk] allocation: got "target"', '"targets"?']),
    ({"risk": {"max_positions": 1.5}}, ["[risk] max_positions: got 1.5"]),
    (
        {"risk": {"max_exposure": {"low": 0.5, "high": 1.5}}},
        ["[risk] max_exposure: 1.5 is above [account] leverage = 1;", "set leverage = 1.5"],
    ),
    (
        {"risk": {"max_exposure": {"sweep": {"low": 1, "high": 3, "step": 1}}},
         "account": {"leverage": 2}},
        ["[risk] max_exposure: 3 is above [account] leverage = 2;"],
    ),
    (
        {"risk": {"max_exposure": {"choices": [2, 1]}}},
        ["[risk] max_exposure: 2 is above"],
    ),
    (
        {"account": {"leverage": 4}},
        ["[account] maintenance_margin: 0.25 is not below 1 / leverage = 0.25", "= 0.125"],
    ),
    (
        {"risk": {"sizing": "weight", "kelly_fraction": {"sweep": [0.1, 0.2]}}},
        ['[risk] kelly_fraction: sizing = "weight" does not read it', 'sizing = "kelly"'],
    ),
    (
        {"risk": {"weight": {"choices": [0.1, 0.2]}}},
        ["[risk] weight: sizing", "vary kelly_fraction or expected_sharpe"],
    ),
    ({"risk": {"sizing": "risk_per_trade"}}, ["[risk] stop_loss: is 0 in some sets"]),
    ({"risk": {"entry": "limits"}}, ["[risk] entry", '"limit"']),
    ({"risk": {"entry_offset": 0.01}}, ["[risk] entry_offset: is not read", 'entry = "limit"']),
    ({"risk": {"entry_bars": {"sweep": [1, 2]}}}, ["[risk] entry_bars: is not read"]),
    (
        {"data": {"path": "bars.parquet", "fills": "finer.parquet"}},
        ["[data] fills: is not read", "stop_loss = 0.05"],
    ),
    ({"risk": {"cooldown": {"sweep": [0, 5]}}}, ["[risk] cooldown: is read after stops"]),
    (
        {"risk": {"entry": "stop"}, "costs": {"fill": "close"}},
        ["[costs] fill:", 'fill = "next_open"'],
    ),
    ({"costs": {"maker_bps": {"sweep": [0.0, 1.0]}}}, ["[costs] maker_bps: is not read"]),
    (
        {"risk": {"sizing": "risk_per_trade", "stop_loss": {"sweep": [0.0, 0.1]}}},
        ["[risk] stop_loss: is 0 in some sets", "stop_loss = 0.05"],
    ),
    (
        {"costs": {"spread_ticks": {"sweep": [0, 1]}}, "instruments": {"SPY": {"tick_size": 0.1}}},
        ["[costs] spread_ticks: needs the tick size of BRK.B; add [instruments.BRK.B]"],
    ),
    (
        {"costs": {"impact": {"SPX": 1}}},
        ['[costs] impact SPX: "SPX" is not among', 'did you mean "SPY"?'],
    ),
    ({"costs": {"impact": {"SPY": 101}}}, ["[costs] impact SPY: got 101", "0 to 100"]),
    (
        {"costs": {"impact": {"sweeep": [1]}}},
        ["[costs] impact sweeep: got [1]; expected a number for the symbol", "{sweep = [...]}"],
    ),
    ({"costs": {"impact": {"low": 1, "hgih": 2}}}, ["unknown key hgih", '"high"?']),
    ({"costs": {"impact": [1]}}, ["[costs] impact: got the list [1]"]),
    ({"costs": {"impat": 1}}, ["[costs] impat: unknown key", '"impact"?']),
    ({"costs": {"fill": "open"}}, ['[costs] fill: got "open"']),
    ({"costs": 3}, ["[costs]: got 3; expected a table"]),
    ({"account": {"levrage": 2}}, ["[account] levrage: unknown key", '"leverage"?']),
    ({"account": {"leverage": 0.5}}, ["[account] leverage: got 0.5", "1 to 100"]),
    ({"account": {"cash_rate": 12}}, ["[account] cash_rate: got 12", "-1 to 10"]),
    ({"account": {"cash_rate": True}}, ["[account] cash_rate: got true", "file.csv:column"]),
    ({"account": {"risk_free": "r.csv"}}, ['[account] risk_free: got "r.csv"', "file.csv:column"]),
    ({"account": {"risk_free": "r.csv:"}}, ['[account] risk_free: got "r.csv:"']),
    ({"account": {"borrow_bps_year": {"SPX": 1}}}, ["[account] borrow_bps_year SPX:", '"SPY"?']),
    ({"account": {"borrow_bps_year": {"SPY": "x"}}}, ['[account] borrow_bps_year SPY: got "x"']),
    ({"account": {"borrow_bps_year": [1]}}, ["[account] borrow_bps_year: got [1]"]),
    ({"instruments": {"SPX": {}}}, ['[instruments.SPX]: "SPX" is not among', '"SPY"?']),
    ({"instruments": {"BRK.B": {"lot_sze": 1}}}, ['[instruments."BRK.B"] lot_sze: unknown key']),
    ({"instruments": {"SPY": {"lot_size": 0}}}, ["[instruments.SPY] lot_size: got 0"]),
    ({"instruments": {"SPY": 3}}, ["[instruments.SPY]: got 3; expected a table"]),
    ({"instruments": 3}, ["[instruments]: got 3; expected a table"]),
]  # fmt: skip


@pytest.mark.parametrize(("given_tables", "parts"), REFUSALS)
def test_refusals(given_tables: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_of(**given_tables)
    message = str(caught.value)
    assert message.splitlines() == [message]
    for part in parts:
        assert part in message


def test_each_mode_refuses_to_vary_what_it_does_not_read() -> None:
    stop = {"stop_loss": 0.1}
    for mode, own in SIZING_PARAMETERS.items():
        others = [name for names in SIZING_PARAMETERS.values() for name in names if name not in own]
        for name in others:
            study_of(risk={**stop, "sizing": mode, name: 0.5})  # one number is harmless
            with pytest.raises(StudyFileError, match="does not read it"):
                study_of(risk={**stop, "sizing": mode, name: {"sweep": [0.1, 0.2]}})
        for name in own:
            study_of(risk={**stop, "sizing": mode, name: {"sweep": [0.1, 0.2]}})


def test_leverage_and_margin_that_fit_are_accepted() -> None:
    study_of(account={"leverage": 3.9}, risk={"max_exposure": 3.9})
    study_of(account={"leverage": 10, "maintenance_margin": 0.05}, risk={"max_exposure": 10})
    study_of(account={"maintenance_margin": 1.0})


def test_no_strategy_takes_a_name_of_risk_or_costs(tmp_path: Path) -> None:
    for name in ("risk", "costs"):
        with pytest.raises(StudyFileError, match="the name of a built-in"):
            study_of(strategy={"name": name, "path": "x.py"})
    assert {p.name for p in RISK}.isdisjoint(p.name for p in COSTS)
    file = tmp_path / "max.py"
    file.write_text(
        'PARAMETERS = {"volume_share": (1.0, 0.0, 2.0)}\nFEATURES = {}\n'
        "def signal(volume_share):\n    return 1.0, 0.0, 0.0\n"
    )
    with pytest.raises(StrategyError, match="max_volume_share is built in"):
        read_strategy(file, "max")
