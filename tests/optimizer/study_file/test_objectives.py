"""Expressions over metrics as objectives, against what Python itself makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from kernels.elementary import logarithms, powers
from optimizer.catalogue import METRICS
from optimizer.errors import StudyFileError
from optimizer.study_file.objectives import (
    metrics_named,
    objective_of,
    objective_values,
    read_objective,
)
from optimizer.study_file.study import study_from_dict

VALUES = {name: 0.25 + 0.5 * i for i, name in enumerate(METRICS)}

NUMBERS = st.sampled_from(["2", "0.5", "3", "1e-3"])
NAMES = st.sampled_from(METRICS)


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from([" + ", "-", "*", " / "])
    return st.one_of(
        st.tuples(parts, signs, parts).map("".join),
        parts.map("({})".format),
        parts.map("-{}".format),
        parts.map("abs({})".format),
        st.tuples(parts, parts).map(lambda pair: f"min({pair[0]}, {pair[1]})"),
        st.tuples(parts, parts, parts).map(lambda three: "max({}, {}, {})".format(*three)),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, NUMBERS), _joined, max_leaves=8)


@given(text=EXPRESSIONS)
def test_an_expression_is_what_python_says(text: str) -> None:
    names = [name for name in METRICS if name in text]
    if not names or len(text) > 300:
        return
    expected = eval(text, {"min": min, "max": max, "abs": abs, "__builtins__": {}}, VALUES)
    written = read_objective(text)
    assert read_objective(written) == written
    assert objective_of(written, VALUES) == expected
    # The same bits in an array, wherever a set stands in it.
    arrays = {name: np.full(7, value) for name, value in VALUES.items()}
    assert objective_values(written, arrays).tolist() == [expected] * 7


def test_roots_powers_and_logarithms() -> None:
    values = {**VALUES, "sharpe": 2.0, "n_trades": 30.0}
    assert objective_of(read_objective("sharpe * n_trades ** 0.5"), values) == 2.0 * 30.0**0.5
    assert objective_of(read_objective("2**-sharpe"), values) == 0.25
    assert objective_of(read_objective("sqrt(n_trades) - log(sharpe)"), values) == (
        math.sqrt(30.0) - math.log(2.0)
    )


def test_powers_and_logarithms_are_those_of_single_numbers() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.lognormal(size=1001), rng.normal(size=1001)
    assert powers(x, y).tolist() == [a**b for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert logarithms(x).tolist() == [math.log(a) for a in x.tolist()]
    assert logarithms(np.array([0.0, -1.0])).tolist()[0] == -math.inf
    assert np.isnan(logarithms(np.array([-1.0]))).all()
    assert np.isnan(powers(np.array([-2.0]), np.array([0.5]))).all()


def test_what_is_undefined_stays_so() -> None:
    values: dict[str, Any] = {**VALUES, "sharpe": math.nan, "sortino": None, "turnover": 0.0}
    for text in ("sharpe + 1", "max(sharpe, 3)", "min(3, sharpe)", "sortino - 1", "log(-calmar)"):
        assert objective_of(read_objective(text), values) is None
    assert objective_values(read_objective("1 / turnover"), values).tolist() == [math.inf]


def test_one_way_of_writing() -> None:
    assert read_objective("sharpe-2*max_drawdown") == "sharpe - 2 * max_drawdown"
    assert read_objective(" (sharpe) ") == "sharpe"
    assert metrics_named("sharpe - 2 * max(sharpe, max_drawdown)") == ("sharpe", "max_drawdown")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharp - 2", 'unknown "sharp" in "sharp - 2"; did you mean "sharpe"? valid: total_return'),
        ("sharpe - oos_sharpe", 'unknown "oos_sharpe"'),
        ("sharp", 'got "sharp"; did you mean "sharpe"?'),
        ("2 + 3", '"2 + 3" names no metric'),
        ("abs(sharpe, 2)", "abs takes one value"),
        ("min(sharpe)", "min takes two values or more"),
        ("sharpe - 1e999", "expected finite numbers"),
        ("sharpe + " * 40 + "1", "361 characters; an expression has at most 300"),
        ("-" * 299 + "x", 'unknown "x"'),
        ("(" * 250 + "sharpe", "expected a metric, or an expression"),
        ("", 'got ""; valid: total_return'),
        *(
            (text, "expected a metric, or an expression of metrics")
            for text in (
                "sharpe if calmar else 2",
                "sharpe > 2",
                "sharpe.real",
                "sharpe[0]",
                "exp(sharpe)",
                "max(*sharpe, calmar)",
                "max(sharpe, key=abs)",
                "__import__('os').system('true')",
                "sharpe; calmar",
                "sharpe +",
                "sharpe % 2",
                "sharpe // 2",
                "sharpe + True",
                "sharpe + 1j",
                "'sharpe' + calmar",
                "(lambda: sharpe)()",
                "sharpe\x00",
                "not sharpe",
                "~sharpe",
            )
        ),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        read_objective(text)
    assert message in caught.value.message()
    assert "\n" not in caught.value.message()


def study(**search: Any) -> Any:
    return study_from_dict(
        {
            "study": {"name": "s"},
            "data": {"path": "bars.parquet"},
            "strategy": {"name": "momentum"},
            "search": search,
        },
        ".",
    )


def test_in_a_study_file() -> None:
    one = study(objective="sharpe-2*max_drawdown")
    assert one.search.objective == ("sharpe - 2 * max_drawdown",)
    assert one.search.direction == ("maximize",)
    assert one.content_hash == study(objective="sharpe - 2*max_drawdown").content_hash
    several = study(objective=["sharpe", "-max_drawdown", "max_drawdown"])
    assert several.search.direction == ("maximize", "maximize", "minimize")
    changed = one.with_(search={"objective": "max_drawdown"})
    assert changed.search.direction == ("minimize",)
    with pytest.raises(
        StudyFileError, match=r'\[search\] objective: unknown "sharp" in "sharp - 2"'
    ):
        study(objective="sharp - 2")
    with pytest.raises(StudyFileError, match="give each objective once"):
        study(objective=["2 * sharpe", "2*sharpe"])
