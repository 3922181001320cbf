"""What the market earned after each regime, against loops, and how often the test rejects."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.market.regimes import fit_market
from optimizer.search.run import run_study
from optimizer.selection.record import RegimeReturns, RegimeValue, load_selection
from optimizer.selection.regime_value import p_of_equal_means, regime_remark
from optimizer.selection.verdict import judge, remarks
from optimizer.types import FloatArray
from tests.reference.selection import inputs_of
from tests.support.studies import changed, random_bars, small_study, write_bars

HMM = {"name": "hmm", "lookback": 5, "train_bars": 60, "refit_bars": 40}
CODES = {"bear": BEAR, "neutral": NEUTRAL, "bull": BULL}


def spells(n: int, random: np.random.Generator, stay: float = 0.95) -> Any:
    """Regimes that last 1 / (1 - stay) bars on average."""
    codes = np.zeros(n, np.int8)
    for t in range(1, n):
        codes[t] = codes[t - 1] if random.random() < stay else random.integers(-1, 2)
    return codes


def garch(n: int, random: np.random.Generator) -> FloatArray:
    returns, variance = np.empty(n), 1e-4
    for t in range(n):
        returns[t] = math.sqrt(variance) * random.standard_t(6) * math.sqrt(4 / 6)
        variance = 2e-6 + 0.1 * returns[t] ** 2 + 0.88 * variance
    return returns


@pytest.mark.parametrize("which", ["noise", "clusters", "wild bears"])
def test_regimes_without_value_are_rejected_as_rarely_as_stated(which: str) -> None:
    random = np.random.default_rng(11)
    p_values = []
    for _ in range(600):
        codes = spells(800, random)
        returns = garch(800, random) if which == "clusters" else random.normal(0.0, 0.01, 800)
        if which == "wild bears":
            returns *= np.where(codes == BEAR, 3.0, 1.0)
        p = p_of_equal_means(returns, codes)
        assert p is not None
        p_values.append(p)
    assert 0.025 < np.mean(np.array(p_values) <= 0.05) < 0.08
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.08)


def test_regimes_with_value_are_found() -> None:
    random = np.random.default_rng(12)
    found = 0
    for _ in range(100):
        codes = spells(800, random)
        p = p_of_equal_means(random.normal(0.002 * codes, 0.01), codes)
        assert p is not None
        found += p <= 0.05
    assert found > 90


def test_two_regimes_are_a_t_test_of_their_difference() -> None:
    """With cosines summed one by one."""
    random = np.random.default_rng(13)
    codes = np.where(spells(300, random) == BULL, BULL, BEAR).astype(np.int8)
    returns = garch(300, random) + 0.001 * codes
    n, degrees = 300, int(0.4 * 300 ** (2 / 3))
    up, down = ([i for i in range(n) if codes[i] == code] for code in (BULL, BEAR))
    means = [statistics.fmean(returns[i] for i in own) for own in (up, down)]
    part = [
        (returns[i] - means[0]) * n / len(up) if codes[i] == BULL
        else -(returns[i] - means[1]) * n / len(down)
        for i in range(n)
    ]  # fmt: skip
    squares = [
        sum(part[i] * math.cos(math.pi * k * (i + 0.5) / n) for i in range(n)) ** 2 * 2 / n
        for k in range(1, degrees + 1)
    ]
    t = (means[0] - means[1]) / math.sqrt(statistics.fmean(squares) / n)
    assert p_of_equal_means(returns, codes) == pytest.approx(2 * stats.t.sf(abs(t), degrees))


def test_the_order_of_the_regimes_does_not_matter() -> None:
    random = np.random.default_rng(14)
    codes, returns = spells(500, random), garch(500, random)
    p = p_of_equal_means(returns, codes)
    assert p_of_equal_means(returns, -codes) == pytest.approx(p)
    turned = np.array([0, 1, -1], np.int8)[codes + 1]
    assert p_of_equal_means(returns, turned) == pytest.approx(p)


def test_what_cannot_be_compared_has_no_p() -> None:
    returns = np.random.default_rng(15).normal(size=200)
    assert p_of_equal_means(returns, np.zeros(200, np.int8)) is None
    few = np.zeros(200, np.int8)
    few[:19] = BULL
    assert p_of_equal_means(returns, few) is None
    few[:20] = BULL
    assert p_of_equal_means(returns, few) is not None
    assert p_of_equal_means(np.zeros(200), few) is None


@pytest.mark.parametrize("market", [None, "BBB"])
def test_a_study_says_what_the_market_earned_after_each_regime(
    market: str | None, tmp_path: Path
) -> None:
    bars = random_bars(700)
    data = write_bars(tmp_path / "bars.parquet", bars)
    classifier = HMM if market is None else {**HMM, "market": market}
    result = run_study(
        small_study(data, classifier=classifier, account={"risk_free": 0.02}), out=tmp_path / "out"
    )
    found, inputs = load_selection(result.folder), inputs_of(result)[1]
    assert found is not None
    parameters = {key: value for key, value in HMM.items() if isinstance(value, int)}
    codes = fit_market(inputs.bars, market, "hmm", parameters).codes
    close = inputs.bars.close
    days = np.diff(inputs.bars.timestamps) / np.timedelta64(1, "D")
    for value, start, stop in (
        (found.regime_value, inputs.first, inputs.split),
        (found.holdout_regime_value, inputs.split, inputs.bars.n_bars),
    ):
        assert value is not None
        assert value.classifier == "hmm"
        after: dict[str, list[float]] = {name: [] for name in CODES}
        for t in range(max(start, 65 + 1), stop):
            mean = statistics.fmean((close[t] / close[t - 1] - 1.0).tolist())
            (name,) = (one for one, code in CODES.items() if code == codes[t - 1])
            after[name].append(mean - 0.02 * float(days[t - 1]) / 365.25)
        assert [one.regime for one in value.regimes] == [name for name in CODES if after[name]]
        yearly = inputs.bars.bars_per_year
        for one in value.regimes:
            own = after[one.regime]
            assert one.n_returns == len(own)
            assert one.mean == pytest.approx(statistics.fmean(own) * yearly, abs=1e-10)
            ratio = statistics.fmean(own) / statistics.stdev(own) * math.sqrt(yearly)
            assert one.sharpe == pytest.approx(ratio, abs=1e-9)
    said = remarks(found, result.study, judge(found).tried)
    inside = found.regime_value
    assert inside is not None
    assert [one for one in said if "regimes of" in one] == [regime_remark(inside)]


def test_the_value_in_sample_does_not_know_the_holdout(tmp_path: Path) -> None:
    values = []
    for name, moved in (("one", False), ("two", True)):
        bars = random_bars(700)
        start = 600
        data = write_bars(
            tmp_path / name / "bars.parquet", changed(bars, start, 0.4) if moved else bars
        )
        result = run_study(small_study(data, classifier=HMM), out=tmp_path / f"out-{name}")
        found = load_selection(result.folder)
        assert found is not None
        assert inputs_of(result)[1].split <= start
        values.append((found.regime_value, found.holdout_regime_value))
    assert values[0][0] == values[1][0]
    assert values[0][1] != values[1][1]


def test_no_classifier_has_no_value(data: Path, tmp_path: Path) -> None:
    found = load_selection(run_study(small_study(data), out=tmp_path / "out").folder)
    assert found is not None
    assert found.regime_value is None
    assert found.holdout_regime_value is None


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.6, "the regimes of hmm show no difference in mean return, p 0.6"),
        (0.01, "the regimes of hmm differ in mean return, p 0.01"),
        (None, "too few bars to compare the regimes of hmm"),
    ],
)
def test_the_remark_says_whether_the_regimes_differ(p: float | None, words: str) -> None:
    rows = (RegimeReturns("bear", 30, -0.02, None), RegimeReturns("bull", 90, 0.123, 0.81))
    said = regime_remark(RegimeValue("hmm", rows, p))
    assert said.startswith(
        "in-sample the market earned a year 12.3% after bull bars (Sharpe ratio 0.81, 90 returns),"
        " -2.0% after bear bars (Sharpe ratio -, 30 returns); "
    )
    assert said.endswith(words)
