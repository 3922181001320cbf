"""A user's own strategy: what is refused and where, and the same bits wherever it runs."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import types

import optimizer
from optimizer.catalogue import COSTS, METRICS, RISK
from optimizer.errors import ExportError, StrategyError, StudyFileError
from optimizer.flow.parity import compare
from optimizer.flow.prepared import run_flow
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.strategies.user import read_strategy
from optimizer.strategies.user_kernels import CustomKernels
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, MarketRegime, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from tests.kernels.test_vectorized import F64, I64, OFF, ON, ROWS, U64, assembly, packed
from tests.support.command import barsweep
from tests.support.strategies import MANY, MOMENTUM
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

WHOLE = [one.name for one in RISK if one.kind is int]


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a strategy's file."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    return write


def study_of(path: Path, /, **strategy: Any) -> Study:
    """A study of the strategy at ``path`` on the bars next to it."""
    table = {"path": path.name, "name": "mine", **strategy}
    return study_from_dict({**mapping(), "strategy": table}, path.parent)


# --- The same bits everywhere -------------------------------------------------------------------


def test_the_built_in_rule_as_a_custom_one_gives_the_same_bits(
    mine: Callable[[str], Path],
) -> None:
    path, bars = mine(MOMENTUM), random_bars()
    for lookback, threshold in ((5, 0.0), (30, 0.02)):
        one = optimizer.backtest(
            bars,
            {
                "strategy": "momentum",
                "momentum_lookback": lookback,
                "momentum_threshold": threshold,
            },
            holdout=0.2,
        )
        two = optimizer.backtest(
            bars,
            {"strategy": "mine", "mine_lookback": lookback, "mine_threshold": threshold},
            holdout=0.2,
            strategy_path=path,
        )
        assert len(one.fills) > 10
        assert one.equity.equals(two.equity)
        assert one.fills.equals(two.fills)
        np.testing.assert_equal(two.out_of_sample, one.out_of_sample)


def many_tile(path: Path) -> tuple[Any, Tile]:
    """Inputs and 130 parameter sets of MANY with their own lookbacks, thresholds and sizes."""
    bars = random_bars()
    space = build_space(study_of(path, fast={"low": 3, "high": 12}, slow={"low": 8, "high": 40}))
    branch = space.branches[0]
    rules = study_rules(study_of(path), space, bars)
    inputs = prepare(bars, space, rules, 0.25)
    rng = np.random.default_rng(5)
    point = {searched.name: searched.first for searched in branch.searched}
    columns = {name: np.repeat(values[:1], 130) for name, values in branch.lanes(point).items()}
    columns["mine_fast"] = rng.integers(3, 13, 130).astype(np.float64)
    columns["mine_slow"] = rng.integers(8, 41, 130).astype(np.float64)
    for name in ("oversold", "overbought"):
        columns[f"mine_{name}"] = rng.uniform(20.0, 80.0, 130)
    for name, most in (("band", 0.02), ("low_range", 0.5), ("high_range", 1.0), ("trust", 1.0)):
        columns[f"mine_{name}"] = rng.uniform(0.0, most, 130)
    columns["mine_edge"] = rng.uniform(0.0, 0.002, 130)
    columns["mine_least_volume"] = rng.uniform(0.2, 0.8, 130)
    return inputs, Tile.of(branch, columns)


def test_lanes_with_six_features_and_eight_parameters_equal_single_sets_and_the_event_flow(
    mine: Callable[[str], Path],
) -> None:
    path = mine(MANY)
    inputs, tile = many_tile(path)
    flat = {NO_REGIME: MarketRegime.neutral(inputs.bars.n_bars)}
    together = evaluate(inputs, [tile], flat)[0].in_sample
    assert len(np.unique(together[:, 0])) > 40  # the sets do differ
    for lane in (0, 63, 64, 129):
        # Alone a set shares its features with the padding of its block: the other way to read them.
        alone = evaluate(inputs, [tile.slice(lane, lane + 1)], flat)[0].in_sample
        np.testing.assert_array_equal(alone[0], together[lane])
    busiest = np.argsort(-together[:, METRICS.index("n_trades")], kind="stable")
    for lane in map(int, busiest[:2]):
        parameters = {name: float(values[lane]) for name, values in tile.columns.items()}
        table = {k.removeprefix("mine_"): v for k, v in parameters.items() if k[:5] == "mine_"}
        table |= {name: int(table[name]) for name in ("fast", "slow")}
        costs = {one.name: parameters[one.name] for one in COSTS}
        risk = {
            name: int(value) if name in WHOLE else value
            for name, value in parameters.items()
            if name not in (f"mine_{key}" for key in table)
            and name not in ("correlation_refresh",)
            and name not in costs
        }
        study = study_from_dict(
            {
                "study": {"name": "one"},
                "data": {"path": "."},
                "strategy": {"path": path.name, "name": "mine", **table},
                "risk": risk,
                "costs": costs,
                "validation": {"holdout": 0.25},
            },
            path.parent,
        )
        result = optimizer.backtest(
            inputs.bars,
            {"strategy": "mine", **parameters},
            holdout=0.25,
            first_bar=inputs.first,
            strategy_path=path,
        )
        assert len(result.fills) > 5
        values = np.array(list(result.in_sample.values()))
        np.testing.assert_array_equal(values, together[lane])
        flow = run_flow(study, inputs.bars, first_bar=inputs.first)
        assert compare(flow, 0, result).differences == ()


_many: dict[str, Any] = {}


def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[CustomKernels, Any]:
    """MANY compiled, and as plain Python; once for all examples."""
    if not _many:
        path = tmp_path_factory.mktemp("many") / "mine.py"
        path.write_text(MANY)
        strategy = read_strategy(path, "mine")
        spec = importlib.util.spec_from_file_location("plain_many", path)
        assert spec is not None and spec.loader is not None
        plain = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plain)
        _many.update(strategy=strategy, kernels=strategy.kernels(), plain=plain)
    return _many["kernels"], _many["plain"]


numbers = st.floats(-100.0, 100.0) | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf])


@settings(max_examples=100)
@given(st.lists(numbers, min_size=17, max_size=17))
def test_the_compiled_signal_is_the_python_one_or_hold(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    compiled, plain = many(tmp_path_factory)
    declared = _many["strategy"].declaration
    names = [argument for argument, _ in declared.features]
    names += ["close", "volatility", "inverse_volatility", *declared.signal_parameters]
    named = dict(zip(names, values, strict=True))
    try:
        said = plain.signal(*(named[argument] for argument in declared.arguments))
    except ZeroDivisionError:  # inf or NaN in a kernel, never an error
        return
    _, strength, confidence = said
    if not (math.isfinite(strength) and strength >= 0.0 and 0.0 <= confidence <= 1.0):
        said = (optimizer.HOLD, 0.0, 0.0)
    assert compiled.signal(*values) == said


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ("LONG, 0.001, 1.0", (1.0, 0.001, 1.0)),
        ("SHORT, 0.0, 0.5", (-1.0, 0.0, 0.5)),
        ("0, 0, 0", (0.0, 0.0, 0.0)),
        ("LONG, momentum * math.nan, 1.0", (2.0, 0.0, 0.0)),
        ("LONG, math.inf, 1.0", (2.0, 0.0, 0.0)),
        ("LONG, -0.001, 1.0", (2.0, 0.0, 0.0)),
        ("LONG, 0.001, 1.1", (2.0, 0.0, 0.0)),
        ("LONG, 0.001, momentum * math.nan", (2.0, 0.0, 0.0)),
        ("0.5, 0.001, 1.0", (2.0, 0.0, 0.0)),
        ("momentum * math.nan, 0.001, 1.0", (2.0, 0.0, 0.0)),
    ],
)
def test_what_is_no_signal_is_hold(
    mine: Callable[[str], Path], returns: str, expected: tuple[float, float, float]
) -> None:
    start = MOMENTUM.index("def signal")
    path = mine(f"{MOMENTUM[:start]}def signal(momentum, threshold):\n    return {returns}\n")
    found = read_strategy(path, "mine").kernels().signal(*[0.5] * 5)
    assert found == expected


POSITION_READ = MOMENTUM.replace("def signal(", "def signal(bars_held, best_return, ").replace(
    "    if momentum > threshold:",
    """    if bars_held > 9.0 or best_return > 0.1:
        return 0.0, 0.0, 1.0
    if momentum > threshold:""",
)
"""Momentum that leaves after some bars, or with a gain."""


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly"
)
@pytest.mark.parametrize("text", [MOMENTUM, POSITION_READ], ids=["features", "position"])
def test_the_users_rule_is_vectorized(text: str, mine: Callable[[str], Path]) -> None:
    compiled: Any = read_strategy(mine(text), "mine").kernels().simulate
    decide: Any = vars(sys.modules[compiled.py_func.__module__])["decide_lanes"]
    lanes: Any = vars(sys.modules[decide.py_func.__module__])["user_lanes"]
    columns = types.Array(types.uint64, 1, "C")
    features = types.Array(types.float64, 3, "C", readonly=True)
    for own in (types.none, types.boolean):
        found = assembly(
            lanes,
            (
                U64,
                U64,
                U64,
                I64,
                U64,
                features,
                columns,
                ROWS,
                ROWS,
                ROWS,
                F64,
                F64,
                F64,
                ON,
                ON,
                own,
                OFF,
            ),
        )
        assert packed("sqrtpd", found), "the square root is taken one lane at a time"
        assert packed("divpd", found)


# --- Workers, starts, files that change ---------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A strategy and bars in a folder."""
    write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "mine.py").write_text(MOMENTUM)
    return tmp_path


SPACE: dict[str, Any] = {
    "lookback": {"low": 5, "high": 40, "step": 5},
    "threshold": {"sweep": [0.0, 0.02]},
}


def test_two_workers_give_what_one_gives(home: Path) -> None:
    study = study_of(home / "mine.py", **SPACE)
    one = run_study(study, out=home / "one", workers=1)
    two = run_study(study, out=home / "two", workers=2)
    assert result_hashes(one.folder) == result_hashes(two.folder)
    assert len(one.results()) == 40
    assert {"mine_lookback", "mine_threshold"} <= set(one.results().columns)
    assert set(one.results()["strategy"]) == {"mine"}


def test_built_in_and_own_strategies_share_a_study(home: Path) -> None:
    content = mapping(
        strategy=[
            {"name": "momentum", **SPACE},
            {"name": "mine", "path": "mine.py", **SPACE},
            {"name": "other", "path": "mine.py", **SPACE},
        ],
        search={"sampler": "grid"},
        risk={"max_exposure": 0.8},
    )
    study = run_study(study_from_dict(content, home), out=home / "out", workers=1)
    result = study.results()
    result = result.join(study.folder.holdout(result["set"].tolist()), on="set")
    metrics = ["sharpe", "final_equity", "oos_sharpe", "n_trades"]
    frames = [result[result["strategy"] == n][metrics] for n in ("momentum", "mine", "other")]
    assert len(frames[0]) == 8 * 2 * 2 * 2
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame.to_numpy(), frames[0].to_numpy())


def test_an_exported_set_is_replayed_until_the_file_changes(home: Path) -> None:
    run_study(study_of(home / "mine.py", **SPACE), out=home / "out", workers=1)
    file = export_sets(home / "out")
    found = replay(file, events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()
    moved = home / "elsewhere"
    moved.mkdir()
    for name in ("out", "mine.py", "bars.parquet"):
        (home / name).rename(moved / name)
    assert replay(moved / "out" / "best.json").differences == ()
    with (moved / "mine.py").open("a") as more:
        more.write("# an edit\n")
    with pytest.raises(ExportError, match=r"strategies mine: .*mine\.py has changed since"):
        replay(moved / "out" / "best.json")
    (moved / "mine.py").unlink()
    with pytest.raises(StrategyError, match=r"mine\.py: no such file"):
        replay(moved / "out" / "best.json")


def test_a_study_is_rebuilt_without_running_code(home: Path) -> None:
    study = study_of(home / "mine.py", **SPACE)
    (home / "mine.py").unlink()
    again = study_from_dict(study.to_dict(), home)
    assert again.strategies == study.strategies
    assert again.content_hash == study.content_hash


def test_a_study_goes_on_with_the_file_that_it_began_with(home: Path) -> None:
    (home / "mine.py").write_text(MOMENTUM)
    study = study_of(home / "mine.py", **SPACE)
    assert len(study.user_strategies) == 1
    code = (
        "import json, sys, optimizer\n"
        "study = optimizer.study_from_dict(json.loads(sys.argv[1]))\n"
        "print(study.user_strategies[0].kernels().signal(*[0.5] * 4, 0.1, 0.1)[0])\n"
    )
    (home / "mine.py").write_text(MOMENTUM.replace("return LONG", "return SHORT"))
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(study.to_dict())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1.0"]


def test_the_hash_of_a_study_is_of_the_file_and_not_of_its_place(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    (other / "mine.py").write_text(MOMENTUM)
    first = study_of(home / "mine.py").content_hash
    assert study_of(other / "mine.py").content_hash == first
    (other / "mine.py").write_text(MOMENTUM + "# an edit\n")
    assert study_of(other / "mine.py").content_hash != first


COUNT = """
import sys
from numba.core import event
class Compiled(event.Listener):
    names = []
    def on_start(self, what): self.names.append(str(what.data["dispatcher"]))
    def on_end(self, what): pass
event.register("numba:compile", Compiled())
import optimizer
from optimizer.review.replay import replay
from optimizer.store.export import export_sets
from optimizer import export_sets, replay
study = optimizer.load_study(sys.argv[1])
optimizer.run_study(study, out=sys.argv[2], workers=int(sys.argv[3]), overwrite=True)
assert replay(export_sets(sys.argv[2]), events=True).parity.differences == ()
print(len(Compiled.names), *Compiled.names)
"""


def test_a_second_start_compiles_nothing(home: Path) -> None:
    # A strategy never seen before, whatever an earlier test has compiled.
    (home / "mine.py").write_text(f"{MOMENTUM}\nTOKEN = {os.urandom(8).hex()!r}\n")
    content = mapping(strategy={"name": "mine", "path": "mine.py", **SPACE})
    (home / "study.toml").write_text(tomli_w.dumps(content))

    def start() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", COUNT, home / "study.toml", home / "out", "1"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert int(start()[0]) > 3
    (home / "mine.py").touch()  # the content counts, not the time of change
    assert start() == ["0"]


# --- Mistakes -----------------------------------------------------------------------------------

FILE = """import math
import numpy as np
from optimizer import HOLD, LONG

PARAMETERS = {
    "lookback": (60, 2, 500),
    "threshold": (0.02, 0.0, 1.0),
}

def near(close, lookback):
    return close / close

FEATURES = {
    "momentum": ("momentum", "lookback"),
    "near": (near, "lookback"),
}

def signal(momentum, near, volatility, threshold):
    if momentum > threshold:
        return LONG, volatility, 1.0
    return HOLD, near * 0.0, 0.0
"""


@pytest.mark.parametrize(
    ("imported", "called"),
    [
        ("import random as r", "r.gauss(0.0, 1.0)"),
        ("from random import gauss", "gauss(0.0, 1.0)"),
        ("from numpy.random import rand", "rand()"),
        ("from numpy import random as r", "r.rand()"),
        ("import time as t", "t.time()"),
    ],
)
def test_a_signal_that_asks_for_chance_or_time_is_refused(
    imported: str, called: str, mine: Callable[[str], Path]
) -> None:
    path = mine(
        f"{imported}\n" + MOMENTUM.replace("return LONG, strength", f"return LONG, {called}")
    )
    with pytest.raises(StrategyError, match=r"mine\.py:\d+: signal: \w+ is of .*: not a pure func"):
        read_strategy(path, "mine")


LONG_LINE = "        return LONG, volatility, 1.0"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (LONG_LINE, LONG_LINE.replace("LONG", '"LONG"'), 20, "a text is a Python object"),
        (LONG_LINE, LONG_LINE.replace("volatility", "[volatility][0]"), 20, "a list is a Python"),
        (LONG_LINE, LONG_LINE.replace("volatility", "{1: 2.0}[1]"), 20, "a dict is a Python"),
        (LONG_LINE, LONG_LINE.replace("volatility", "volatility.foo()"), 20, "attribute 'foo'"),
        (LONG_LINE, LONG_LINE.replace("volatility", "volatilty"), 20, "'volatilty' is not defined"),
        (LONG_LINE, LONG_LINE.replace("volatility", "np.zeros(3)[0]"), 20, "zeros"),
        (LONG_LINE, LONG_LINE.replace("volatility", "np.random.rand()"), 20, "not a pure function"),
        (LONG_LINE, "        raise ValueError", 20, "errors cannot be raised"),
        (LONG_LINE, "        return LONG, volatility", 20, "expected (direction, strength, confid"),
        (LONG_LINE, "        return volatility", 20, "expected three numbers"),
        (LONG_LINE, "        return None", 20, "returns None"),
        (LONG_LINE, "        pass", 21, ""),
        ("    return HOLD, near * 0.0, 0.0", "    pass", 18, "can end without a return"),
        ('("momentum", "lookback")', '("momentun", "lookback")', 14, "unknown feature 'momentun'"),
        ('("momentum", "lookback")', '("momentum", "look")', 14, "'look' is not in PARAMETERS"),
        ('("momentum", "lookback")', '"momentum"', 14, "expected (feature, its parameters"),
        ('("momentum", "lookback")', "len", 14, "got len; expected (feature, its parameters"),
        ("(near, ", "(math.sqrt, ", 15, "a function of this file, or of TA-Lib"),
        ("(near, ", "(lambda close: close, ", 15, "define it in this file"),
        ("threshold):", "treshold):", 18, "unknown argument treshold"),
        ("volatility, threshold):", "volatility):", 7, "threshold is neither"),
        ("momentum, near,", "momentum,", 15, "signal does not take near"),
        ("threshold):", "threshold=0.1):", 18, "no *, ** or default"),
        ("def near(close", "def near((close", 10, "not Python"),
        ("def near(close", "def near(closes", 10, "takes closes, lookback, and FEATURES gives 1"),
        ("import math", "import maths", 1, "No module named 'maths'"),
        ("import math", "import sys; sys.exit(3)", 1, "ended the program"),
        ("import math", "1 / 0", 1, "ZeroDivisionError"),
        ("def signal", "def signals", 1, "no function signal"),
        (
            "def signal",
            "signal = lambda close: (LONG, 0.1, 1.0)\ndef signals",
            18,
            "no function sig",
        ),
        (LONG_LINE, "        return signal(momentum, near, volatility, 0.0)", 20, "calls itself"),
        ("(0.02, 0.0, 1.0)", "(2.0, 0.0, 1.0)", 7, "default 2.0 is not within 0.0 to 1.0"),
        ("(0.02, 0.0, 1.0)", "0.02", 7, "expected (default, lowest, highest)"),
        ("(60, 2, 500)", "(60.0, 2, 500)", 6, "expected whole numbers"),
        ('"threshold"', '"Threshold"', 7, "small letters"),
        ('"near": (', '"close": (', 15, "close already has a meaning"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    mine: Callable[[str], Path], old: str, new: str, line: int, words: str
) -> None:
    assert FILE.count(old) == 1
    path = mine(FILE.replace(old, new))
    if not words:  # the control: this one is none
        assert read_strategy(path, "mine").declaration.arguments[0] == "momentum"
        return
    with pytest.raises(StrategyError) as found:
        read_strategy(path, "mine")
    message = str(found.value)
    assert re.search(rf"mine\.py:{line}: ", message), message
    assert words in message
    assert "\n" not in message


def test_too_many_features_and_parameters(mine: Callable[[str], Path]) -> None:
    names = [f"p{i}" for i in range(32)]
    many = ", ".join(f'"{name}": (0.0, 0.0, 1.0)' for name in names)
    text = FILE.replace('    "threshold"', f'    {many},\n    "threshold"')
    text = text.replace("volatility, threshold):", f"volatility, threshold, {', '.join(names)}):")
    with pytest.raises(StrategyError, match="takes 33 parameters; it may take at most 32"):
        read_strategy(mine(text), "mine")


def test_a_function_of_another_file_is_refused(
    tmp_path: Path, mine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # An edit of it would not be seen: the old machine code would run on.
    (tmp_path / "my_library_of_rules.py").write_text("def twice(x):\n    return 2.0 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = FILE.replace("import math", "from my_library_of_rules import twice")
    path = mine(text.replace("LONG, volatility", "LONG, twice(volatility)"))
    with pytest.raises(StrategyError, match=r"mine\.py:20: .*twice comes from my_library_of_rules"):
        read_strategy(path, "mine")


@pytest.mark.parametrize("edit", ["SCALE = 2.0", "SCALE = 3.0"])
def test_a_constant_of_the_file_counts(mine: Callable[[str], Path], edit: str) -> None:
    text = FILE.replace("import math", edit).replace("LONG, volatility", "LONG, SCALE * volatility")
    found = read_strategy(mine(text), "mine").kernels().signal(*[0.5] * 5, 0.1)
    assert found == (1.0, 0.5 * float(edit[-3:]), 1.0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return close[:-1]", r"shape \(299,\); expected one number a bar, \(300,\)"),
        ("return close[0]", r"shape \(\)"),
        ('return ["x"] * len(close)', "could not convert string"),
        ("return close / nothing", "NameError"),
        ("close[0] = 1.0; return close", "read-only"),
        ("raise SystemExit(1)", "SystemExit"),
        (
            "return np.where(np.arange(len(close)) == 200, np.nan, close)",
            r"_60: nan at \d{4}-\d\d-\d\dT00:00 of AAA \(bar 200\)",
        ),
        ("return np.append(close[:-1], np.inf)", r"_60: inf at .* \(bar 299\)"),
        ("return np.append(close[:-1], -np.inf)", r"_60: -inf at .* \(bar 299\)"),
        ("return close * 1j", "TypeError: returned complex numbers"),
    ],
)
def test_a_feature_that_fails_is_named_before_anything_starts(
    home: Path, body: str, words: str
) -> None:
    (home / "mine.py").write_text(FILE.replace("return close / close", body))
    with pytest.raises(StrategyError, match=rf"mine\.py:1[01]: feature mine\.near.*{words}"):
        run_study(study_of(home / "mine.py"), out=home / "out", workers=2)
    assert not (home / "out").exists()


def test_a_signal_that_is_none_is_named_before_the_workers_start(home: Path) -> None:
    (home / "mine.py").write_text(FILE.replace("LONG, volatility", "LONG, math.sqrt(-momentum)"))
    with pytest.raises(
        StrategyError,
        match=r"mine\.py:18: signal: direction 1, strength nan, confidence 1 with momentum = .*"
        r" at \d{4}-\d\d-\d\dT\d\d:\d\d of [ABC]{3} \(bar \d+\)",
    ):
        run_study(study_of(home / "mine.py"), out=home / "out", workers=2)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"name": "momentum", "path": "mine.py"}, r'name: got "momentum", the name of a built-in'),
        ({"name": "hmm", "path": "mine.py"}, "the name of a built-in"),
        ({"name": "Mine", "path": "mine.py"}, "small letters"),
        ({"path": "mine.py"}, "name: missing"),
        ({"name": "mine", "path": ""}, "path: got"),
        ({"name": "mine", "path": 3}, "path: got 3"),
        ({"name": "mine", "path": "mine.py", "lookbak": 3}, 'did you mean "lookback"'),
        ({"name": "mine", "path": "mine.py", "lookback": 0}, "lookback: got 0"),
        ({"name": "mine", "path": "mine.py", "declared": {}}, "not as barsweep wrote it"),
    ],
)
def test_a_mistake_in_the_study_file(home: Path, table: dict[str, Any], words: str) -> None:
    content = {**mapping(), "strategy": table}
    with pytest.raises(StudyFileError, match=words):
        study_from_dict(content, home)


def test_a_column_that_a_built_in_has_is_refused(home: Path) -> None:
    table = {"name": "volatility", "path": "mine.py"}
    with pytest.raises(StrategyError, match="the column volatility_lookback is built in"):
        study_from_dict({**mapping(), "strategy": table}, home)


def test_the_command_line_gives_one_line_and_says_whose_code_it_runs(home: Path) -> None:
    two = [{"name": "mine", "path": "mine.py", **SPACE}, {"name": "other", "path": "mine.py"}]
    (home / "study.toml").write_text(tomli_w.dumps(mapping(strategy=two)))
    done = barsweep("check", "study.toml", folder=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "runs code from mine.py"
    assert done.stdout.count("runs code from") == 1  # although it holds two strategies
    for text, words in (
        (MOMENTUM.replace("momentum > threshold", "momentum > [threshold]"), "mine.py:14: signal"),
        (None, 'path = "mine.py": no such file'),
    ):
        (home / "mine.py").unlink()
        if text is not None:
            (home / "mine.py").write_text(text)
        done = barsweep("check", "study.toml", folder=home)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("error: ") and words in done.stderr
