"""The decisions of one portfolio at a close: against the reference, by hand, and in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor, inf
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import codes
from kernels.codes import ALLOCATIONS, REASONS, SIZINGS
from kernels.decisions import decide, without_place
from kernels.risk import reducing_part
from tests.reference import simulation as reference
from tests.reference.simulation import Candidate, ParameterSet, Rules, Sizing

FloatArray = npt.NDArray[np.float64]
modest = settings(deadline=None, max_examples=300)


@dataclass
class Close:
    """A portfolio at a close."""

    symbols: list[Candidate]
    chosen: ParameterSet
    rules: Rules
    variance: float = 0.0
    equity: float = 1000.0
    correlations: FloatArray | None = None

    @property
    def values(self) -> FloatArray:
        """Signed values of the positions."""
        return np.array([one.lots * one.lot_value for one in self.symbols])

    def permuted(self, order: list[int]) -> Close:
        """The same portfolio with the symbols in other places."""
        matrix = self.correlations
        return replace(
            self,
            symbols=[self.symbols[s] for s in order],
            correlations=None if matrix is None else matrix[order][:, order],
        )


@dataclass
class Decided:
    """What ``decide`` wrote."""

    wanted: list[float]
    orders: list[float]
    reasons: list[str]
    barred: list[float]
    share: float
    sizes: list[float] = field(compare=False)
    rhos: list[float] = field(compare=False)


def decided(close: Close, waiting: Sequence[int] = (), multiplier: float = 1.0) -> Decided:
    """The decision of the kernel; it must leave what it only reads. Symbols that wait have no signal."""

    def column(name: str) -> FloatArray:
        return np.array([getattr(one, name) for one in close.symbols], dtype=np.float64)

    n = len(close.symbols)
    directions, volatility = column("direction"), column("volatility")
    directions[list(waiting)] = np.nan
    inverse = np.divide(1.0, volatility, out=np.zeros(n), where=volatility > 0.0)
    read = column("strength"), column("confidence"), inverse, column("lots")
    kept = [array.copy() for array in read]
    barred, wanted, orders = column("barred"), np.full(n, np.nan), np.full(n, np.nan)
    sizes, rhos = np.full((2, n), np.nan)
    reasons = np.full(n, -1, dtype=np.int64)
    values, chosen = close.values, close.chosen
    share = decide(
        directions, *read, barred, np.zeros(n), np.zeros(n), np.inf, 0.0,
        column("lot_units"), column("lot_value"),
        SIZINGS.index(close.rules.sizing), ALLOCATIONS.index(close.rules.allocation),
        chosen.size, multiplier, chosen.max_weight, chosen.max_positions, chosen.max_exposure,
        chosen.min_order_size, chosen.rebalance_band, close.variance, close.equity,
        float(np.abs(values).sum()), np.full(n, chosen.stop_loss), np.zeros(n), close.correlations,
        values, float(np.abs(values).sum()),
        chosen.correlation_penalty,
        True if close.rules.allow_short else None, wanted, sizes, rhos, orders, reasons,
    )  # fmt: skip
    for array, copy in zip(read, kept, strict=True):
        assert (array == copy).all()
    names = [REASONS[code] for code in reasons]
    return Decided(
        wanted.tolist(),
        orders.tolist(),
        names,
        barred.tolist(),
        share,
        sizes.tolist(),
        rhos.tolist(),
    )


@st.composite
def closes(draw: st.DrawFn) -> Close:
    """Any portfolio. Money is in quarters, so that sums are exact in any order."""
    short = draw(st.booleans())
    n = draw(st.integers(1, 6))
    lots = st.integers(-50 if short else 0, 50)
    held = st.one_of(st.just(0), lots)
    symbols = [
        Candidate(
            draw(st.sampled_from([-1, 0, 1, 1, 2])),
            draw(st.sampled_from([0.0, 0.0005, 0.001, 0.002])),
            draw(st.sampled_from([0.0, 0.5, 1.0])),
            draw(st.sampled_from([0.0, 0.01, 0.02])),
            float(draw(held)),
            draw(st.sampled_from([0.5, 1.0, 10.0])),
            draw(st.integers(1, 200)) / 4.0,
            barred=draw(st.sampled_from([0, 0, 0, 1, -1 if short else 1])),
        )
        for _ in range(n)
    ]
    sizing = draw(st.sampled_from(get_args(Sizing)))
    size = {"kelly": 0.3, "volatility_target": 0.007}.get(sizing, 0.7)
    chosen = ParameterSet(
        size=size * draw(st.sampled_from([0.0, 0.1, 1.0, 9.0])),
        stop_loss=draw(st.sampled_from([inf, 0.5, 0.25])),
        max_weight=draw(st.sampled_from([0.1, 1.0, 5.0])),
        max_positions=draw(st.sampled_from([inf, 1.0, 2.0, 3.0])),
        max_exposure=draw(st.sampled_from([0.5, 1.0, 3.0])),
        min_order_size=draw(st.sampled_from([0.0, 1.0, 7.0, 40.0])),
        rebalance_band=draw(st.sampled_from([0.0, 0.1, 0.5])),
        correlation_penalty=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )
    allocation: Literal["additions", "targets"] = draw(st.sampled_from(["additions", "targets"]))
    rules = Rules(allow_short=short, sizing=sizing, allocation=allocation)
    variance = draw(st.sampled_from([0.0, 1e-4, 1e-3]))
    equity = draw(st.integers(-100, 8000)) / 4.0
    matrix = None
    if draw(st.booleans()):
        entry = st.integers(-4, 4).map(lambda quarter: quarter / 4.0)
        matrix = np.eye(n)
        for i in range(n):
            for j in range(i):
                matrix[i, j] = matrix[j, i] = draw(entry)
    return Close(symbols, chosen, rules, variance, equity, matrix)


def expected_of(close: Close) -> reference.Decision:
    """The decision of the reference, which is told the mean correlations."""
    symbols, values, matrix = close.symbols, close.values, close.correlations
    chosen = close.chosen
    if matrix is None:
        chosen = replace(chosen, correlation_penalty=0.0)
    else:
        symbols = []
        for s, one in enumerate(close.symbols):
            others = [j for j in range(len(values)) if j != s]
            held = sum(abs(values[j]) for j in others)
            weighted = sum(matrix[s, j] * values[j] for j in others)
            symbols.append(replace(one, rho=weighted / held if held else 0.0))
    return reference.decide(symbols, chosen, close.rules, 1.0, close.variance, close.equity)


@modest
@given(closes())
def test_decisions_equal_the_reference(close: Close) -> None:
    actual, expected = decided(close), expected_of(close)
    assert actual.wanted == expected.wanted
    assert actual.barred == expected.barred
    assert actual.share == pytest.approx(expected.factor, rel=1e-12)
    assert actual.orders == expected.orders


@modest
@given(closes(), st.randoms(use_true_random=False))
def test_the_order_of_the_symbols_does_not_matter(close: Close, random: object) -> None:
    order = list(range(len(close.symbols)))
    getattr(random, "shuffle")(order)  # noqa: B009
    one, other = decided(close), decided(close.permuted(order))
    assert other.share == one.share
    for name in ("wanted", "orders", "reasons", "barred"):
        assert getattr(other, name) == [getattr(one, name)[s] for s in order]


@modest
@given(closes(), st.data())
def test_a_symbol_that_waits_is_on_hold(close: Close, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(close.symbols) - 1))
    close.symbols[place] = replace(close.symbols[place], direction=2)
    if close.rules.sizing == "equal_weight":
        close.rules = replace(close.rules, sizing="weight")
    assert decided(close, waiting=[place]) == decided(close)


def test_a_symbol_that_waits_does_not_count_for_equal_weight() -> None:
    held = Candidate(2, 0.001, 1.0, 0.01, lots=10.0, lot_units=1.0, lot_value=10.0)
    bought = replace(held, direction=1, lots=0.0)
    chosen = ParameterSet(size=0.4, max_weight=1.0, max_exposure=9.0)
    close = Close([held, bought], chosen, Rules(sizing="equal_weight"))
    # 0.4 of 1,000 in lots of 10, for two or for one.
    assert decided(close).orders == [0.0, 20.0]
    assert decided(close, waiting=[0]).orders == [0.0, 40.0]


@modest
@given(closes())
def test_orders_keep_the_rules(close: Close) -> None:
    decision, chosen = decided(close), close.chosen
    assert 0.0 <= decision.share <= 1.0
    after, opened = 0.0, 0
    for one, order in zip(close.symbols, decision.orders, strict=True):
        kept = one.lots + order
        assert order == int(order)
        assert close.rules.allow_short or kept >= 0.0
        if abs(kept) > abs(one.lots):
            assert abs(order) * one.lot_units >= chosen.min_order_size
        after += abs(kept) * one.lot_value
        opened += one.lots == 0.0 and order != 0.0
    gross = float(np.abs(close.values).sum())
    # Additions fit into the budget; only what is held already may exceed it.
    assert after <= max(chosen.max_exposure * close.equity, gross) + 1e-9
    stay = sum(
        one.lots != 0.0 and w != 0.0 for one, w in zip(close.symbols, decision.wanted, strict=True)
    )
    assert opened <= max(chosen.max_positions - stay, 0.0)


@modest
@given(closes())
def test_additions_leave_reductions_alone(close: Close) -> None:
    close = replace(close, rules=replace(close.rules, allocation="additions"))
    short = True if close.rules.allow_short else None
    whole = decided(replace(close, chosen=replace(close.chosen, max_exposure=1e9)))
    tight = decided(replace(close, chosen=replace(close.chosen, max_exposure=0.0)))
    for one, free, cut in zip(close.symbols, whole.orders, tight.orders, strict=True):
        reduction = reducing_part(free, one.lots, short)
        # Without any budget a reduction is what it was, and nothing is added unless others free it.
        if reduction == free:
            assert cut == free


@modest
@given(closes())
def test_a_reason_says_why_there_is_no_order(close: Close) -> None:
    decision = decided(close)
    ranked = zip(close.symbols, decision.orders, decision.reasons, decision.wanted, strict=True)
    for one, order, reason, wanted in ranked:
        assert (reason == "placed") == (order != 0.0)
        if reason == "held":
            assert one.direction == 2 or one.direction == one.barred
        if reason == "no_volatility":
            assert one.volatility == 0.0 and one.direction in (1, -1)
            assert close.rules.sizing in ("kelly", "volatility_target")
        if reason == "no_signal":
            assert one.lots == 0.0 and wanted == 0.0
        if reason == "no_edge":
            assert one.direction in (1, -1) and wanted == one.lots == 0.0
        if reason == "unchanged":
            assert wanted == one.lots != 0.0
        if reason == "no_place":
            assert one.lots == 0.0 and wanted != 0.0 and close.chosen.max_positions < inf
        if reason == "no_budget":
            assert decision.share < 1.0
        if reason == "below_minimum":
            assert close.chosen.min_order_size > 0.0
        if reason == "inside_band":
            assert close.chosen.rebalance_band > 0.0


def one_symbol(**given_: Any) -> Candidate:
    """A long signal of a symbol at 10 a lot; strength and volatility make a Kelly size of 5."""
    return replace(Candidate(1, 0.002, 1.0, 0.02, 0.0, 1.0, 10.0), **given_)


BASE = ParameterSet(size=0.0501, max_weight=1.0)


@pytest.mark.parametrize(
    ("symbol", "chosen", "order", "reason"),
    [
        (one_symbol(), BASE, 25, "placed"),
        (one_symbol(direction=0), BASE, 0, "no_signal"),
        (one_symbol(direction=-1), BASE, 0, "no_signal"),
        (one_symbol(direction=-1, lots=7.0), BASE, -7, "placed"),
        (one_symbol(direction=2, lots=7.0), BASE, 0, "held"),
        (one_symbol(lots=25.0), BASE, 0, "unchanged"),
        (one_symbol(strength=0.00001), BASE, 0, "no_edge"),
        (one_symbol(volatility=0.0), BASE, 0, "no_volatility"),
        (one_symbol(), replace(BASE, max_positions=0.0), 0, "no_place"),
        (one_symbol(), replace(BASE, max_exposure=0.005), 0, "no_budget"),
        (one_symbol(), replace(BASE, min_order_size=26.0), 0, "below_minimum"),
        (one_symbol(lots=24.0), replace(BASE, rebalance_band=0.1), 0, "inside_band"),
        (one_symbol(barred=1), BASE, 0, "no_signal"),
        (one_symbol(barred=1, lots=9.0), BASE, -9, "placed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("allocation", ["additions", "targets"])
def test_reasons_by_hand(
    symbol: Candidate,
    chosen: ParameterSet,
    order: float,
    reason: str,
    allocation: Literal["additions", "targets"],
) -> None:
    decision = decided(Close([symbol], chosen, Rules(allocation=allocation)))
    assert decision.orders == [order]
    assert decision.reasons == [reason]


def test_the_portfolio_is_no_calmer_than_its_own_returns() -> None:
    # A variance of 0.0016, four times that of the symbol, quarters the size.
    decision = decided(Close([one_symbol()], BASE, Rules(), variance=0.0016))
    assert decision.orders == [6]


def test_of_two_that_are_equal_the_less_volatile_comes_in() -> None:
    rules = Rules(sizing="weight")
    chosen = replace(BASE, size=0.2, max_positions=1.0)
    calm, wild = one_symbol(volatility=0.01), one_symbol(volatility=0.02)
    assert decided(Close([wild, calm], chosen, rules)).orders == [0, 20]
    assert decided(Close([calm, wild], chosen, rules)).orders == [20, 0]
    assert decided(Close([calm, calm], chosen, rules)).orders == [0, 0]
    stronger = one_symbol(strength=0.003)
    assert decided(Close([calm, stronger, calm], chosen, rules)).orders == [0, 20, 0]


def test_a_place_is_for_symbols_that_are_to_be_opened() -> None:
    edges, ones = np.array([0.1, 0.2, 0.3]), np.ones(3)
    lots, wanted = np.array([5.0, 0.0, 0.0]), np.array([5.0, 9.0, 9.0])

    def out(places: float) -> list[bool]:
        return [without_place(s, edges, ones, ones, lots, wanted, places) for s in range(3)]

    assert out(3.0) == [False, False, False]
    assert out(2.0) == [False, True, False]
    assert out(1.0) == [False, True, True]
    # The first is to be closed, so that it takes no place.
    wanted[0] = 0.0
    assert out(2.0) == [False, False, False]


def test_every_reason_has_a_name() -> None:
    for number, name in enumerate(REASONS):
        assert getattr(codes, name.upper()) == number


def test_a_size_is_told_in_its_parts() -> None:
    """The size before the regime, and rho: with them and the cap, what is wanted."""
    held, other = one_symbol(lots=50.0), one_symbol()
    matrix = np.array([[1.0, 0.6], [0.6, 1.0]])
    chosen = replace(BASE, correlation_penalty=0.5)
    close = Close([held, other], chosen, Rules(), correlations=matrix)
    decision = decided(close, multiplier=0.8)
    assert decision.sizes == pytest.approx([0.0501 * 5.0] * 2)
    # Only the second symbol has another position beside it.
    assert decision.rhos == pytest.approx([0.0, 0.6])
    fractions = [0.0501 * 5.0 * 0.8, 0.0501 * 5.0 * 0.8 * (1.0 - 0.5 * 0.6)]
    assert decision.wanted == [floor(fraction * 1000.0 / 10.0) for fraction in fractions]
    weight = decided(replace(close, rules=Rules(sizing="weight")), multiplier=0.8)
    assert weight.sizes == [0.0501] * 2
