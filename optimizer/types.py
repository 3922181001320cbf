"""Frozen records that pass between the packages."""

from __future__ import annotations

import datetime
import functools
import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from optimizer.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
MaskArray = npt.NDArray[np.uint8]
TimeArray = npt.NDArray[np.datetime64]
_Number = TypeVar("_Number", bound=np.generic)

NOT_TRADED, NO_VOLUME, NO_BUYING_POWER = "not_traded", "no_volume", "no_buying_power"
NOT_REACHED, NOT_FILLED, NOT_HELD = "not_reached", "not_filled", "not_held"
"""Reject reasons of an order that became no fill: its symbol did not trade in the bar, the share of the
bar's volume was less than a lot (of a stop too), or the buying power was; the bar did not reach the price
at which an entry waited, or the entry was cancelled; a real broker did not fill it; it sells what is not
held, and short positions are off.

Only the trace has them, next to the reasons of ``kernels.codes``; the sweep needs no codes for them.
"""


def correlation_id(owner: str, bar: int, *parts: str) -> str:
    """The ID of an event at one bar; it depends only on the arguments.

    Args:
        owner: ID of the portfolio, strategy or classifier, or the first digits of the bars' hash.
        bar: index of the bar.
        parts: the symbol, if there is one, and the kind of event.
    """
    return ".".join((owner, f"{bar:07d}", *parts))


@dataclass(frozen=True, eq=False, repr=False)
class Bars:
    """Market bars of several symbols on one calendar.

    All arrays are read-only. ``timestamps`` has shape (n_bars,), dtype datetime64[ns], UTC, strictly
    increasing, and is the start of each bar. The prices and the volume have shape
    (n_bars, n_symbols), float64, C-contiguous; prices are positive and finite.

    A symbol may lack bars of the calendar. There its four prices are its last close before, or its
    first open where there is none, and its volume is 0. They value what is held; nothing else reads them.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet", symbols=["SPY", "TLT"])
    >>> bars
    <Bars of SPY, TLT: 3,201 from 2005-02-25T00:00 to 2017-11-10T00:00>
    >>> bars.close.shape
    (3201, 2)

    Attributes:
        symbols: names, in the order of the columns; bars that are loaded have them in order of name.
        bars_per_year: bars in one year of this calendar; annualizes returns.
        source: where the bars came from, for messages.
        has_volume: shape (n_symbols,), whether the symbol has volume at all, also beyond these bars.
            None finds out from these bars.
        present: whether each symbol has each bar, shape (n_bars, n_symbols), 1 or 0; None where every
            symbol has every bar.
        payments: dividends less funding, money that a unit held at the close before is paid in each bar,
            shape (n_bars, n_symbols); None where there are none.
        content_hash: SHA-256 of symbols, times, prices and volumes, of which bars are there, and of
            payments.
    """

    symbols: tuple[str, ...]
    timestamps: TimeArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    bars_per_year: float
    source: str = "<memory>"
    has_volume: BoolArray | None = None
    present: MaskArray | None = None
    payments: FloatArray | None = None
    content_hash: str = field(init=False)

    def __post_init__(self) -> None:
        if self.has_volume is None:
            object.__setattr__(self, "has_volume", (self.volume > 0.0).any(axis=0))
        digest = hashlib.sha256("\0".join(self.symbols).encode())
        for name in ("timestamps", "open", "high", "low", "close", "volume"):
            array = getattr(self, name)
            array.flags.writeable = False
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.present is not None and self.present.all():
            object.__setattr__(self, "present", None)
        if self.present is not None:
            self.present.flags.writeable = False
            digest.update(np.ascontiguousarray(self.present).tobytes())
        if self.payments is not None:
            self.payments.flags.writeable = False
            digest.update(b"payments" + np.ascontiguousarray(self.payments).tobytes())
        np.asarray(self.has_volume).flags.writeable = False
        object.__setattr__(self, "content_hash", digest.hexdigest())

    @property
    def n_bars(self) -> int:
        """Number of bars of each symbol."""
        return len(self.timestamps)

    @property
    def n_symbols(self) -> int:
        """Number of symbols."""
        return len(self.symbols)

    @cached_property
    def traded(self) -> MaskArray:
        """Whether each symbol traded in each bar, shape (n_bars, n_symbols), 1 or 0; read-only.

        A symbol trades where its volume is above 0. One without any volume, such as an index or a
        currency pair, counts as one whose volume is unknown: it trades in every bar that it has.
        """
        traded = self.volume > 0.0
        traded |= ~np.asarray(self.has_volume)
        mask = traded.view(np.uint8)
        if self.present is not None:
            mask &= self.present
        mask.flags.writeable = False
        return mask

    def own(self, symbol: int) -> IntArray:
        """The indices of the bars that a symbol has, shape (n_own,), ascending.

        Args:
            symbol: index of a symbol.
        """
        if self.present is None:
            return np.arange(self.n_bars)
        return np.flatnonzero(self.present[:, symbol])

    def carried(
        self, symbol: int, values: npt.NDArray[_Number], missing: float
    ) -> npt.NDArray[_Number]:
        """Values at the bars that a symbol has, at every bar: those of its last one so far.

        Args:
            symbol: index of a symbol.
            values: the values at ``own(symbol)``, shape (n_own,).
            missing: the value before its first bar.

        Returns:
            Shape (n_bars,).
        """
        if self.present is None:
            return values
        number = np.cumsum(self.present[:, symbol], dtype=np.int64) - 1
        spread = np.full(self.n_bars, missing, dtype=values.dtype)
        there = number >= 0
        spread[there] = values[number[there]]
        return spread

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        symbols: Sequence[str] | str | None = None,
        start: str | datetime.date | np.datetime64 | None = None,
        end: str | datetime.date | np.datetime64 | None = None,
        *,
        symbol: str | None = None,
        align: Literal["inner", "strict", "outer"] = "inner",
        timezone: str = "UTC",
        bars_per_year: float | None = None,
        bar: str | None = None,
        funding: str | None = None,
        dividends: str | None = None,
    ) -> Bars:
        """The bars of a DataFrame: tidy, wide with a level of columns per field, or of one symbol.

        The forms are those of ``bars_from_frame``, which this is, the checks those of ``load_bars``.

        Args:
            frame: the bars; its arrays are copied and stay writable.
            symbols, start, end, align, timezone, bars_per_year, bar, funding, dividends: the arguments
                that ``load_bars`` takes.
            symbol: the name of the one symbol of a frame that names none.

        Raises:
            DataError: the frame has none of these forms, or its bars cannot be used.
        """
        # Through the door of the package: this module is above the one that reads and checks bars.
        import optimizer

        return optimizer.bars_from_frame(
            frame,
            symbols,
            start,
            end,
            symbol=symbol,
            align=align,
            timezone=timezone,
            bars_per_year=bars_per_year,
            bar=bar,
            funding=funding,
            dividends=dividends,
        )

    def to_frame(self) -> pd.DataFrame:
        """The bars as a tidy DataFrame, from which ``from_frame`` makes the same bars.

        A symbol has a row for each bar that it has: ``align="outer"`` restores symbols with different
        ones. Bars with payments have the columns ``funding``, to rounding, and ``dividends``.

        >>> import optimizer
        >>> bars = optimizer.load_bars("bars.parquet")
        >>> again = optimizer.Bars.from_frame(bars.to_frame())
        >>> again.content_hash == bars.content_hash
        True

        Returns:
            Columns ``symbol``, ``timestamp`` (UTC), ``open``, ``high``, ``low``, ``close`` and
            ``volume``, in the order of symbols and times.
        """
        import pandas as pd  # here, for it is slow to load and this alone needs it

        parts = []
        for number, name in enumerate(self.symbols):
            own = self.own(number)
            fields = ("open", "high", "low", "close", "volume")
            columns = {field: getattr(self, field)[own, number] for field in fields}
            if self.payments is not None:
                paid = self.payments[own, number]
                before = np.concatenate(([np.inf], columns["close"][:-1]))
                columns["funding"] = np.maximum(0.0 - paid, 0.0) / before
                columns["dividends"] = np.maximum(paid, 0.0)
            times = pd.DatetimeIndex(self.timestamps[own], tz="UTC")
            parts.append(pd.DataFrame({"symbol": name, "timestamp": times, **columns}))
        return pd.concat(parts, ignore_index=True)

    def __repr__(self) -> str:
        """The bars in a line: symbols, number and span."""
        names = ", ".join(self.symbols[:5]) + (", ..." if self.n_symbols > 5 else "")
        first, last = (str(self.timestamps[i])[:16] for i in (0, -1))
        return f"<Bars of {names}: {self.n_bars:,} from {first} to {last}>"

    def head(self, stop: int) -> Bars:
        """The bars before bar ``stop``.

        Args:
            stop: index of a bar.
        """
        return Bars(
            symbols=self.symbols,
            timestamps=self.timestamps[:stop],
            open=self.open[:stop],
            high=self.high[:stop],
            low=self.low[:stop],
            close=self.close[:stop],
            volume=self.volume[:stop],
            bars_per_year=self.bars_per_year,
            source=self.source,
            has_volume=self.has_volume,
            present=None if self.present is None else self.present[:stop],
            payments=None if self.payments is None else self.payments[:stop],
        )

    def at(self, index: int) -> Bar:
        """The bar of all symbols at one timestamp.

        Args:
            index: the index of the bar.
        """
        return Bar(
            index,
            self.timestamps[index],
            self.symbols,
            self.open[index],
            self.high[index],
            self.low[index],
            self.close[index],
            self.volume[index],
            self.traded[index],
            np.where(self.volume[index] > 0.0, self.volume[index], np.inf),
            None if self.present is None else self.present[index],
            None if self.payments is None else self.payments[index],
        )


@dataclass(frozen=True, eq=False, slots=True, init=False)
class Bar:
    """One bar of one symbol or of several.

    >>> from optimizer.flow import Bar
    >>> bar = Bar(0, "2024-01-02", "SPY", 470.0, 473.7, 469.9, 472.7, 1_000_000)
    >>> bar.close.tolist(), bar.traded.tolist()
    ([472.7], [1])

    Args:
        index: the index of the bar, from 0.
        time: its start: a text, ``datetime`` or ``datetime64``, UTC unless it says otherwise.
        symbols: names, in the order of the arrays; a text is the only one.
        open, high, low, close: prices, a number for one symbol, or shape (n_symbols,). They are copied.
        volume: units traded, likewise; None where it is unknown.
        traded: shape (n_symbols,), 1 where the symbol trades in the bar; None takes where its volume is
            above 0 or unknown.
        market_volume: shape (n_symbols,), what fills are measured by; None takes ``volume``, or inf where
            it is unknown or 0.
        present: whether each symbol has this bar, shape (n_symbols,), 1 or 0; None where all have.
        payments: shape (n_symbols,), see ``Bars.payments``; None where the bars have none.

    Attributes:
        index: the index of the bar, from 0.
        time: its start, UTC.
        symbols: names, in the order of the arrays.
        open, high, low, close, volume: shape (n_symbols,), read-only; an unknown volume is 0.
        traded: shape (n_symbols,), 1 where the symbol trades in the bar, see ``Bars.traded``.
        market_volume: shape (n_symbols,), ``volume``, or inf where it is unknown or 0 (nothing
            trades then, and a symbol that ends is closed without impact): what fills are measured by.
        present: whether each symbol has this bar, shape (n_symbols,), 1 or 0; None where all have.
        payments: shape (n_symbols,), see ``Bars.payments``; None where the bars have none.

    Raises:
        DataError: an array has another shape, a price is no number above 0, or high and low do not
            enclose the others.
    """

    index: int
    time: np.datetime64
    symbols: tuple[str, ...]
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    traded: MaskArray
    market_volume: FloatArray
    present: MaskArray | None
    payments: FloatArray | None

    def __init__(
        self,
        index: int,
        time: str | datetime.datetime | np.datetime64,
        symbols: str | Sequence[str],
        open: npt.ArrayLike,
        high: npt.ArrayLike,
        low: npt.ArrayLike,
        close: npt.ArrayLike,
        volume: npt.ArrayLike | None = None,
        traded: npt.ArrayLike | None = None,
        market_volume: npt.ArrayLike | None = None,
        present: npt.ArrayLike | None = None,
        payments: npt.ArrayLike | None = None,
    ) -> None:
        names = (symbols,) if isinstance(symbols, str) else tuple(symbols)
        put = functools.partial(object.__setattr__, self)
        put("index", operator.index(index))
        put("time", _utc(time))
        put("symbols", names)
        for name, given in (("open", open), ("high", high), ("low", low), ("close", close)):
            put(name, self._array(name, given))
        self._check_prices()
        known = None if volume is None else self._array("volume", volume)
        put("volume", self._array("volume", np.zeros(len(names))) if known is None else known)
        if traded is None:
            traded = np.ones(len(names)) if known is None else known > 0.0
        put("traded", self._array("traded", traded, np.uint8))
        if market_volume is None:
            market_volume = np.where(self.volume > 0.0, self.volume, np.inf)
        put("market_volume", self._array("market_volume", market_volume))
        put("present", None if present is None else self._array("present", present, np.uint8))
        put("payments", None if payments is None else self._array("payments", payments))

    def _array(self, name: str, given: npt.ArrayLike, kind: Any = np.float64) -> npt.NDArray[Any]:
        """A read-only copy; arrays that nobody can write to are taken as they are."""
        try:
            array = np.asarray(given, dtype=kind)
        except (TypeError, ValueError):
            raise self._refusal(f"{name} = {given!r}; expected numbers") from None
        if array.ndim == 0 and len(self.symbols) == 1:
            array = array.reshape(1)
        if array.shape != (len(self.symbols),):
            got = "is one number" if array.ndim == 0 else f"has shape {array.shape}"
            raise self._refusal(f"{name} {got}; expected {len(self.symbols)}, one a symbol")
        if array.flags.writeable:
            array = array.copy()
            array.flags.writeable = False
        return array

    def _check_prices(self) -> None:
        for name in ("open", "high", "low", "close"):
            values = getattr(self, name)
            wrong = ~((values > 0.0) & np.isfinite(values))
            if wrong.any():
                s = int(np.argmax(wrong))
                raise self._refusal(
                    f"{name} = {values[s]} of {self.symbols[s]}; expected a price above 0"
                )
        least, most = np.minimum(self.open, self.close), np.maximum(self.open, self.close)
        wrong = (self.low > least) | (self.high < most)
        if wrong.any():
            s = int(np.argmax(wrong))
            prices = ", ".join(
                f"{name} = {getattr(self, name)[s]}" for name in ("open", "high", "low", "close")
            )
            raise self._refusal(
                f"{prices} of {self.symbols[s]}; expected low <= open and close <= high"
            )

    def _refusal(self, problem: str) -> DataError:
        return DataError(f"bar {self.index} at {self.time} of {', '.join(self.symbols)}: {problem}")


def _utc(time: str | datetime.datetime | np.datetime64) -> np.datetime64:
    """A time in UTC, without a zone."""
    try:
        if isinstance(time, str):
            time = datetime.datetime.fromisoformat(time)
        if isinstance(time, datetime.datetime) and time.tzinfo is not None:
            time = time.astimezone(datetime.UTC).replace(tzinfo=None)
        found = np.datetime64(np.asarray(time, dtype="datetime64[ns]").item(), "ns")
    except (TypeError, ValueError):
        raise DataError(
            f"time {time!r}: expected one such as 2024-01-02 or 2024-01-02T15:30"
        ) from None
    if np.isnat(found):
        raise DataError("time NaT: expected one such as 2024-01-02")
    return found


@dataclass(frozen=True, slots=True)
class Signal:
    """The output of a strategy for one symbol at one bar.

    Attributes:
        id: the ID of the signal.
        symbol: index.
        direction: -1 short, 0 flat, 1 long, 2 hold.
        strength: expected return per bar.
        confidence: 0 to 1.
        volatility, inverse_volatility: the symbol's volatility per bar and its inverse, which size
            the position.
    """

    id: str
    symbol: int
    direction: float
    strength: float
    confidence: float
    volatility: float
    inverse_volatility: float


@dataclass(frozen=True, slots=True)
class Regime:
    """The output of a classifier at one bar.

    Attributes:
        id: correlation ID of the classifier at the bar.
        code: -1 bear, 0 neutral, 1 bull.
        bear_probability, bull_probability: 0 before the first fit, and where no signal takes them.
    """

    id: str
    code: int
    bear_probability: float = 0.0
    bull_probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Sizing:
    """How the size of an order came about, see docs/sizing.md.

    The position wanted is ``size x regime_factor x correlation_factor`` of equity, and at most
    ``max_weight`` of it.

    Attributes:
        size: fraction of equity by the sizing mode, such as Kelly's, before all factors.
        regime_factor: the multiplier of the regime.
        rho: mean correlation with the other positions, weighted by value; 0 without any.
        correlation_factor: ``1 - correlation_penalty x max(0, rho)``.
        portfolio_variance: variance of the portfolio per bar and unit of exposure, of which ``kelly``
            takes the larger of this and the symbol's own.
        equity: money at the close.
    """

    size: float
    regime_factor: float
    rho: float
    correlation_factor: float
    portfolio_variance: float
    equity: float


@dataclass(frozen=True, slots=True)
class Order:
    """A trade that the risk manager wants at the next fill.

    Attributes:
        id: the ID of the order.
        portfolio_id: the ID of the portfolio that it is for.
        bar, time: index and time of the bar of decision.
        symbol, name: index and name of the symbol.
        lots: signed change of the position.
        quantity: the same in units.
        wanted: position that the signal wanted before all orders shared the budget, in lots, signed.
        budget_share: the factor by which the budget scaled all additions, or all targets, of this
            close; 0 to 1.
        target: position after the order, in lots, signed.
        signal_id, regime_id: the IDs of the signal and the regime behind the order.
        sizing: how ``wanted`` came about; None for an exit, an entry that waits on while its signal
            holds, and an order that nothing has sized.
    """

    id: str
    portfolio_id: str
    bar: int
    time: np.datetime64
    symbol: int
    name: str
    lots: float
    quantity: float
    wanted: float
    budget_share: float
    target: float
    signal_id: str
    regime_id: str
    sizing: Sizing | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """A trade.

    Attributes:
        id: the ID of the fill.
        portfolio_id: the ID of the portfolio that it is for.
        order_id: the ID of the order; None if a stop, a margin call or ruin closed the position.
        bar: index of the bar in which it filled.
        time: when it filled: the time of that bar, or of a finer one in it, unless a broker says.
        symbol: index.
        kind: ``order``, ``stop``, ``liquidation``, ``end`` (of the symbol's bars), or ``ruin``, which
            writes the position off at the close at no cost.
        lots: signed change of the position.
        quantity: signed change of the position, units.
        price: the price per unit, spread, slippage and impact included.
        raw_value: money per lot at the market's price.
        cash_per_lot: money that a lot took or brought, all costs included.
        cost: all costs of the whole fill, money.
        opening_order_id: without an order of its own, the one that opened the position.
        stop_level: the price that the bar reached or opened beyond, for a stop.
    """

    id: str
    portfolio_id: str
    order_id: str | None
    bar: int
    time: np.datetime64
    symbol: int
    kind: str
    lots: float
    quantity: float
    price: float
    raw_value: float
    cash_per_lot: float
    cost: float
    opening_order_id: str | None = None
    stop_level: float | None = None


@dataclass(frozen=True, eq=False)
class PortfolioState:
    """A portfolio at the close of a bar, as the risk manager sees it.

    Attributes:
        portfolio_id: begins the IDs of its orders.
        cash, equity, gross: money; gross is the sum of the absolute values of all positions.
        exposure: gross over equity.
        variance: EWMA of the squared return per unit of exposure.
        lots: position of each symbol, signed.
        barred: direction of each symbol that a stop keeps closed; 0 is neither.
        cooling: closes at which nothing may be entered in each symbol.
        held_bars: closes at which each position has been held.
        values: signed value of each position as of the last refresh of the correlations, money,
            shape (n_symbols,), read-only.
        values_gross: sum of their absolute values.
    """

    portfolio_id: str
    cash: float
    equity: float
    gross: float
    exposure: float
    variance: float
    lots: tuple[float, ...]
    barred: tuple[float, ...]
    cooling: tuple[float, ...]
    held_bars: tuple[float, ...]
    values: FloatArray
    values_gross: float
