"""Several strategies in one account: the rules by hand, the same bits everywhere, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizer
from kernels.codes import FLAT, HOLD, LONG, SHORT
from kernels.combining import add_vote, add_weight, elected, first_signal, weighed
from optimizer.errors import SignalError, StudyFileError, UntrustedCodeError
from optimizer.flow.parity import compare
from optimizer.flow.prepared import run_flow
from optimizer.review.replay import replay
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.strategies import approvals, recorded_source
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.combined import CombinedStrategy, named_parts
from optimizer.strategies.user import read_strategy
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.single_set import single_set_study
from tests.support.cases import random_case
from tests.support.strategies import POSITION
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

Said = tuple[float, float, float]

directions = st.sampled_from([float(one) for one in (LONG, SHORT, FLAT, HOLD)])
signals = st.lists(
    st.tuples(directions, st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=2, max_size=5
)


def voted(said: list[Said]) -> Said:
    tallies = []
    for side in (LONG, SHORT, FLAT):
        tally = (0.0, 0.0, 0.0)
        for one in said:
            tally = add_vote(float(side), *tally, *one)
        tallies.append(tally)
    return elected(*tallies[0], *tallies[1], tallies[2][0])


def summed(said: list[Said], shares: list[float]) -> Said:
    sums = (0.0, 0.0, 0.0)
    for one, share in zip(said, shares, strict=True):
        sums = add_weight(*sums, share, *one)
    return weighed(*sums)


@given(signals)
def test_the_first_that_does_not_hold(said: list[Said]) -> None:
    found = said[0]
    for one in said[1:]:
        found = first_signal(*found, *one)
    assert found == next((one for one in said if one[0] != HOLD), said[-1])


@given(signals)
def test_the_vote(said: list[Said]) -> None:
    direction, strength, confidence = voted(said)
    votes = {side: [one for one in said if one[0] == side] for side in (LONG, SHORT, FLAT)}
    most = max(map(len, votes.values()))
    winners = [side for side, own in votes.items() if len(own) == most]
    if most == 0 or len(winners) > 1:
        assert (direction, strength, confidence) == (HOLD, 0.0, 0.0)
        return
    assert direction == winners[0]
    own = votes[winners[0]]
    if direction == FLAT:
        assert (strength, confidence) == (0.0, 0.0)
    else:
        assert strength == pytest.approx(np.mean([one[1] for one in own]))
        assert confidence == pytest.approx(np.mean([one[2] for one in own]))
        assert 0.0 <= confidence <= 1.0


@given(signals, st.lists(st.floats(0.0, 3.0), min_size=5, max_size=5))
def test_the_sum_of_weights(said: list[Said], shares: list[float]) -> None:
    shares = shares[: len(said)]
    direction, strength, confidence = summed(said, shares)
    heard = [(share, *one) for share, one in zip(shares, said, strict=True) if one[0] != HOLD]
    net = sum(share * d * s * c for share, d, s, c in heard)
    assert 0.0 <= confidence <= 1.0
    assert strength * confidence == pytest.approx(abs(net), abs=1e-12)
    if not heard:
        assert direction == HOLD
    elif abs(net) > 1e-12:
        assert direction == np.sign(net)


def test_a_sum_by_hand() -> None:
    long, short = (1.0, 0.002, 1.0), (-1.0, 0.001, 0.5)
    assert summed([long, short], [1.0, 2.0]) == pytest.approx((1.0, 0.004, 0.25))
    assert summed([long, (2.0, 0.5, 1.0)], [1.0, 1.0]) == (1.0, 0.002, 1.0)
    assert summed([long, (-1.0, 0.002, 1.0)], [1.0, 1.0]) == (0.0, 0.004, 0.0)


# --- The same bits everywhere -------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A strategy that reads its position, and bars."""
    write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "mine.py").write_text(POSITION)
    return tmp_path


def together(rule: str, home: Path, **tables: Any) -> Study:
    strategies: list[dict[str, Any]] = [
        {"name": "momentum", "lookback": {"choices": [5, 20]}, "threshold": {"sweep": [0.0, 0.02]}},
        {"name": "breakout", "lookback": 20, "atr_lookback": 5, "width": {"sweep": [1.0, 2.0]}},
        {"name": "mine", "path": "mine.py", "lookback": {"low": 2, "high": 6}},
    ]
    if rule == "sum":
        strategies[1]["share"] = {"sweep": [0.5, 2.0]}
    content = mapping(
        strategy=strategies, strategies={"combine": "together", "rule": rule}, **tables
    )
    return study_from_dict(content, home)


@pytest.mark.parametrize("rule", ["vote", "sum", "first"])
def test_sweep_workers_export_replay_and_flow(rule: str, home: Path) -> None:
    study = together(rule, home)
    one = run_study(study, out=home / "one", workers=1)
    two = run_study(study, out=home / "two", workers=2)
    assert result_hashes(one.folder) == result_hashes(two.folder)
    table = one.results()
    assert set(table["strategy"]) == {f"{rule}(momentum+breakout+mine)"}
    columns = {"momentum_threshold", "breakout_width", "mine_longest"}
    assert columns | ({"breakout_share", "mine_share"} if rule == "sum" else set()) <= set(table)
    assert table["n_trades"].max() > 20 and table["sharpe"].nunique() > 20
    found = replay(export_sets(home / "one"), events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()


def test_a_study_together_is_resumed(home: Path) -> None:
    study = together("vote", home, search={"trials": 8})
    whole = run_study(study, out=home / "whole", workers=1)
    part = run_study(study.override(trials=4), out=home / "part", workers=1)
    assert len(part.results()) < len(whole.results())
    again = study_from_dict(study.to_dict(), home)
    assert again.content_hash == study.content_hash
    done = resume_study(home / "whole", workers=1)
    assert result_hashes(done.folder) == result_hashes(whole.folder)


@pytest.mark.parametrize("number", [1, 3, 7, 11])
def test_events_equal_the_sweep_with_every_option(number: int, home: Path) -> None:
    case = random_case(number, home)
    kept = {
        name: value
        for name, value in case.parameters.items()
        if not name.startswith(case.parameters["strategy"]) and name != "strategy"
    }
    parameters = {
        "strategy": "sum(momentum+mine)",
        "momentum_lookback": 4,
        "momentum_share": 0.7,
        "mine_lookback": 3,
        "mine_share": 2.0,
        **kept,
    }
    result = optimizer.backtest(
        case.bars,
        parameters,
        costs=case.costs,
        allow_short=case.allow_short,
        holdout=0.3,
        strategy_path={"mine": home / "mine.py"},
        **case.more,
    )
    assert len(result.fills) > 5
    own = {"mine": {"path": str(home / "mine.py")}}
    given = (parameters, case.costs, case.allow_short, None, 0.3)
    flow = run_flow(single_set_study(*given, own=own, **case.more), case.bars)
    assert compare(flow, 0, result).differences == ()


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "momentum"])
def test_every_built_in_one_says_what_it_says_alone(name: str) -> None:
    one, other = BUILT_IN[name], BUILT_IN["momentum"]
    rule = CombinedStrategy.of([one, other], "first").rule()
    own = {parameter.name: np.array([2.0]) for parameter in one.parameters}
    p = [float(values[0]) for values in one.signal_values(own)]
    # At 0 with a threshold of 0 the second strategy holds.
    acted = 0
    for x in ([1.0, 90.0], [90.0, 1.0], [1.0, 1.0], [90.0, 90.0]):
        given = x[: len(one.features)]
        alone = one.rule()(given, p, 50.0, 0.02, 50.0, 0.05)
        found = rule([*given, 0.0], [*p, 0.0, 1.0], 50.0, 0.02, 50.0, 0.05)
        if alone[0] != HOLD:
            acted += 1
            assert found == alone
        else:
            assert found[0] == HOLD
    assert acted > 0


def test_one_that_never_acts_changes_nothing(home: Path) -> None:
    """A rule whose threshold is never met holds: first, vote and sum are the other strategy alone."""
    bars = random_bars()
    alone = optimizer.backtest(
        bars, {"strategy": "momentum", "momentum_lookback": 10}, first_bar=40
    )
    for rule in ("first", "vote", "sum"):
        both = optimizer.backtest(
            bars,
            {
                "strategy": f"{rule}(mean_reversion+momentum)",
                "momentum_lookback": 10,
                "mean_reversion_oversold": 0.0,
                "mean_reversion_overbought": 100.0,
            },
            first_bar=40,
        )
        assert both.equity.equals(alone.equity), rule
    assert len(alone.fills) > 10


def test_a_constraint_may_compare_two_of_them(home: Path) -> None:
    study = together("vote", home, search={"constraints": ["mine_lookback < momentum_lookback"]})
    branch = build_space(study).branches[0]
    assert [str(one) for one in branch.constraints] == ["mine_lookback < momentum_lookback"]
    apart = {key: value for key, value in study.to_dict().items() if key != "strategies"}
    with pytest.raises(StudyFileError, match="compares two strategies"):
        study_from_dict(apart, home)


def test_each_file_is_approved(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study(together("first", home, search={"trials": 2}), out=home / "out", workers=1)
    file = export_sets(home / "out")
    monkeypatch.setattr(approvals, "is_approved", lambda _: False)
    monkeypatch.setattr(recorded_source, "is_approved", lambda _: False)
    with pytest.raises(UntrustedCodeError, match=r"mine\.py"):
        replay(file)


def test_names() -> None:
    assert named_parts("momentum") == ("", ("momentum",))
    assert named_parts("vote(a+b_2)") == ("vote", ("a", "b_2"))
    assert named_parts("other(a+b)") == ("", ("other(a+b)",))
    parts = [
        build_space(study_from_dict(mapping(strategy=[{"name": name}]), Path())).strategies[0]
        for name in ("momentum", "breakout")
    ]
    assert CombinedStrategy.of(parts, "sum").columns == (
        "momentum_lookback",
        "momentum_threshold",
        "momentum_share",
        "breakout_lookback",
        "breakout_atr_lookback",
        "breakout_width",
        "breakout_share",
    )


# --- Mistakes -----------------------------------------------------------------------------------

TWO: list[dict[str, Any]] = [{"name": "momentum"}, {"name": "breakout"}]


@pytest.mark.parametrize(
    ("strategy", "combination", "message"),
    [
        (TWO[:1], {"combine": "together", "rule": "vote"}, 'combine: "together" needs two or more'),
        (TWO, {"combine": "together"}, "rule: missing; valid: vote, sum, first"),
        (TWO, {"combine": "together", "rule": "mean"}, 'rule: got "mean"'),
        (TWO, {"combine": "both"}, 'combine: got "both"'),
        (TWO, {"rule": "vote"}, 'rule: "vote" says how strategies share an account'),
        (TWO, {"join": "vote"}, "join: unknown key"),
        (
            [{**TWO[0], "share": 2.0}, TWO[1]],
            {"combine": "together", "rule": "vote"},
            'share: is read with [strategies] rule = "sum" alone',
        ),
        ([{**TWO[0], "share": 2.0}], {}, 'share: is read with [strategies] rule = "sum" alone'),
        (
            [{**TWO[0], "share": -1.0}, TWO[1]],
            {"combine": "together", "rule": "sum"},
            "share: got -1",
        ),
    ],
)
def test_mistakes(strategy: Any, combination: Any, message: str) -> None:
    content = mapping(strategy=strategy, strategies=combination)
    with pytest.raises(StudyFileError) as raised:
        study_from_dict(content, Path())
    assert message in str(raised.value).replace("\\", "")
    assert "\n" not in str(raised.value)


def test_a_parameter_called_share_is_refused_in_a_sum(home: Path) -> None:
    (home / "mine.py").write_text(POSITION.replace("pause", "share"))
    with pytest.raises(StudyFileError, match="mine has a parameter share of its own"):
        together("sum", home)
    assert together("vote", home).combination.together


def test_an_error_names_every_file_that_it_may_be_in(tmp_path: Path) -> None:
    head = 'from optimizer import HOLD\nPARAMETERS = {"n": (5, 2, 9)}\nFEATURES = {"m": ("sma", "n")}\n'
    (tmp_path / "calm.py").write_text(head + "def signal(m):\n    return HOLD, 0.0, 0.0\n")
    wild = "def signal(m):\n    return HOLD, 1.0 * (0.1, 0.2)[int(m)], 0.0\n"
    (tmp_path / "wild.py").write_text(head + wild)
    parts = [read_strategy(tmp_path / f"{name}.py", name) for name in ("calm", "wild")]
    rule = CombinedStrategy.of(parts, "first").rule()
    with pytest.raises(SignalError, match=r"calm\.py:4 or \S*wild\.py:4: signal: .*out of range"):
        rule([0.0, 7.0], (), 1.0, 0.1, 10.0, 0.0)
