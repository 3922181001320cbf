"""Run with pytest in this folder."""

from pathlib import Path

import my_strategy

import optimizer

STUDY = Path(__file__).with_name("study.toml")


def test_nothing_reads_ahead():
    """Features and signals are the same bits whatever bars follow."""
    study = optimizer.load_study(STUDY)
    bars = optimizer.load_bars(study.data_path, symbols=study.data.symbols)
    assert [str(one) for one in optimizer.look_ahead_check(study, bars)] == []


def test_signal():
    """The strategy is plain Python: call it."""
    given = {"volatility": 0.01, "threshold": 0.02, "nearness": 0.9}
    assert my_strategy.signal(0.05, 0.95, **given) == (optimizer.LONG, 0.0005, 1.0)
    assert my_strategy.signal(0.05, 0.80, **given)[0] == optimizer.HOLD
    assert my_strategy.signal(-0.05, 0.95, **given)[0] == optimizer.SHORT
