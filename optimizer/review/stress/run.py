"""Stress of an exported set: one row for each condition under which it is simulated again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.bars.load import load_bars
from optimizer.errors import BarsweepError, DataError, StudyError
from optimizer.review.exported import ExportedSet, naming_export, open_export, read_export
from optimizer.review.rerun import Terms, set_study
from optimizer.review.stress import changes, parts
from optimizer.review.stress.limits import Limit, break_even, largest_account
from optimizer.review.stress.rows import NO_FIGURES, Row, Stress, quantile, symbols_text
from optimizer.review.stress.simulation import Figures, InSample, Simulated
from optimizer.study_file.tables import SIDE_FILES
from optimizer.sweep.buy_and_hold import UNIVERSE

SKIPPED = 0.1
"""Share of the entries that are skipped."""

NOISE = 0.1
"""Noise of the prices, a fraction of each symbol's volatility per bar."""

LATER = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""By what shares of the in-sample bars the first decision is moved later."""

MOST_REPEATS = 100_000

_SKIPS, _NOISE = 15, 16
"""Separate the random streams of one seed."""


def stress(
    path: str | Path,
    *,
    number: int | None = None,
    data: Sequence[str | Path] = (),
    repeats: int = 100,
    seed: int = 0,
    trust: bool = False,
    on_group: Callable[[str], None] | None = None,
) -> Stress:
    """Simulate an exported set in-sample under worse conditions; the holdout is never simulated.

    >>> import optimizer
    >>> found = optimizer.stress("out/best.json", repeats=2)
    >>> found.rows[0].name, found.rows[1].name
    ('as exported', 'costs x 2')

    Args:
        path: a JSON or TOML export.
        number: the rank of the set in an export, from 1, or its number in a study; None takes the best.
        data: files of bars: the study's, where they have moved, and any with other symbols, on which
            the set is simulated too.
        repeats: how often skipped entries and noise are drawn.
        seed: the seed of these draws.
        trust: approve the strategy file that the export names, for good. You need not for what you
            ran yourself.
        on_group: called with the kind of each condition before it is simulated.

    Returns:
        A row for each condition, the break-even costs and the largest account.

    Raises:
        ExportError: the file cannot be used, or the bars or the strategy are not those of the study.
        UntrustedCodeError: you have neither run nor approved the strategy file.
        StrategyError: the user's strategy cannot be used.
        DataError: the bars cannot be used.
        StudyError: a number is out of bounds.
    """
    if not 2 <= repeats <= MOST_REPEATS or seed < 0:
        raise StudyError(
            f"repeats = {repeats}, seed = {seed}; expected 2 to {MOST_REPEATS:,} repeats, and a seed of 0"
            " or more"
        )
    file = Path(path)
    with naming_export(file):
        moved, others = _sorted_out(file, number, [Path(one) for one in data])
        exported = open_export(file, number, moved, trust)
        return _Stressed(exported, others, repeats, seed, on_group).all()


def _sorted_out(
    file: Path, number: int | None, data: Sequence[Path]
) -> tuple[Path | None, list[Path]]:
    """Which of some files holds the bars of the study, if any does, and the others."""
    content, _, base = read_export(file, number)
    moved, others = None, []
    for one in data:
        if not one.is_file():
            raise DataError(f"{one}: no such file; name bars with --data FILE")
        try:
            Terms.of_export(content, base, one).bars()
        except (DataError, StudyError):
            others.append(one)
        else:
            moved = one
    return moved, others


class _Stressed:
    """The rows of one set."""

    def __init__(
        self,
        exported: ExportedSet,
        others: Sequence[Path],
        repeats: int,
        seed: int,
        on_group: Callable[[str], None] | None,
    ) -> None:
        self._exported, self._others = exported, others
        self._repeats, self._seed = repeats, seed
        self._on_group = on_group
        self._set = InSample.of(exported)
        self._base = self._set.run(fills=True)
        self._trades = self._base.trades(self._set.inputs)
        self._costs = self._account = Limit(None, "")

    def all(self) -> Stress:
        """Every row."""
        groups: dict[str, Callable[[], Iterator[Row]]] = {
            "costs": self._of_costs,
            "delay": self._of_delay,
            "entries": self._of_entries,
            "prices": self._of_prices,
            "start": self._of_start,
            "symbols": self._of_symbols,
            "years": self._of_years,
            "regimes": self._of_regimes,
            "sides": self._of_sides,
            "account": self._of_account,
            "other symbols": self._of_others,
        }
        rows = [Row("study", "as exported", self._base.figures)]
        for name, group in groups.items():
            if self._on_group is not None:
                self._on_group(name)
            rows += [replace(row, group=name) for row in group()]
        bars, first = self._set.inputs.bars, self._set.inputs.first
        return Stress(
            study=self._exported.study,
            number=int(self._exported.document["set"]),
            strategy=self._set.strategy.name,
            start=str(bars.timestamps[first])[:16],
            stop=str(bars.timestamps[-1])[:16],
            repeats=self._repeats,
            seed=self._seed,
            rows=tuple(rows),
            costs=self._costs,
            account=self._account,
        )

    def _of_costs(self) -> Iterator[Row]:
        if not changes.has_costs(self._set):
            self._costs = Limit(None, "never: trading costs nothing")
            yield Row("", "costs x 2", note="trading costs nothing")
            yield Row("", "break-even costs", note=self._costs.note)
            return

        def at(multiple: float) -> Figures:
            inputs, tile = changes.times_costs(self._set, multiple)
            return self._set.run(inputs, tile=tile).figures

        yield Row("", "costs x 2", at(2.0))
        self._costs = break_even(lambda multiple: (at(multiple).sharpe or 0.0) > 0.0)
        multiple = self._costs.multiple
        figures = NO_FIGURES if multiple is None else at(multiple)
        yield Row("", "break-even costs", figures, self._costs.note)

    def _of_delay(self) -> Iterator[Row]:
        name = "decisions one bar later"
        if changes.reads_close(self._set.strategy):
            yield Row("", name, note="does not apply: the signal reads the close of the bar itself")
            return
        inputs, fitted = changes.delayed(self._set)
        yield Row("", name, self._set.run(inputs, fitted=fitted).figures)

    def _of_entries(self) -> Iterator[Row]:
        n_entries = len(self._trades)
        name = f"{SKIPPED:.0%} of the entries skipped"
        if not n_entries:
            yield Row("", name, note="does not apply: the set never trades")
            return
        n_skipped = max(1, round(SKIPPED * n_entries))

        def one(repeat: int) -> Figures:
            random = np.random.default_rng([self._seed, _SKIPS, repeat])
            skipped = random.choice(n_entries, n_skipped, replace=False)
            inputs = changes.without_entries(self._set.inputs, self._trades, skipped)
            return self._set.run(inputs).figures

        yield from self._repeated(name, one)

    def _of_prices(self) -> Iterator[Row]:
        name = f"prices off by {NOISE:.0%} of the volatility"
        if self._set.rules.finer is not None:
            yield Row(
                "", name, note="does not apply: the finer bars of [data] fills have true prices"
            )
            return

        def one(repeat: int) -> Figures:
            random = np.random.default_rng([self._seed, _NOISE, repeat])
            bars = changes.noisy(self._set.bars, self._set.split, NOISE, random)
            return self._set.run(self._set.prepared(bars), fitted=self._set.fitted(bars)).figures

        note = (
            "" if self._set.rules.slower is None else "the bars of [data] slower stay as they are"
        )
        yield from self._repeated(name, one, note)

    def _repeated(self, name: str, one: Callable[[int], Figures], note: str = "") -> Iterator[Row]:
        try:
            found = [one(repeat) for repeat in range(self._repeats)]
        except BarsweepError as error:
            yield Row("", name, note=f"does not apply: {error}")
            return
        yield Row("", f"{name}, median of {self._repeats:,}", quantile(found, 0.5), note)
        yield Row("", f"{name}, 5% quantile", quantile(found, 0.05), note)

    def _of_start(self) -> Iterator[Row]:
        inputs = self._set.inputs
        n_bars = inputs.bars.n_bars - inputs.first
        for share in LATER:
            later = max(1, round(share * n_bars))
            first = inputs.first + later
            name = f"first decision {later:,} bars later, {str(inputs.bars.timestamps[first])[:10]}"
            yield Row("", name, self._set.run(self._set.later(later)).figures)

    def _of_symbols(self) -> Iterator[Row]:
        inputs = self._set.inputs
        if inputs.bars.n_symbols == 1:
            yield Row("", "without a symbol", note="does not apply: there is one symbol")
            return
        for s, symbol in enumerate(inputs.bars.symbols):
            figures = self._set.run(changes.without_symbol(inputs, s)).figures
            yield Row("", f"without {symbol}", figures)

    def _of_years(self) -> Iterator[Row]:
        found = list(parts.without_years(self._set, self._base))
        if len(found) == 1:
            yield Row("", "without a year", note="does not apply: all bars are of one year")
            return
        for year, figures in found:
            yield Row("", f"without {year}", figures)

    def _of_regimes(self) -> Iterator[Row]:
        if self._set.tile.classifier == "none":
            yield Row("", "by regime", note="does not apply: the set has no classifier")
            return
        for name, share, figures in parts.by_regime(self._set, self._base):
            yield Row("", name, figures, f"{share:.0%} of the returns")

    def _of_sides(self) -> Iterator[Row]:
        for side, figures in parts.by_side(self._set, self._base):
            if side == "short" and not self._set.rules.allow_short:
                yield Row("", side, note="does not apply: the study allows no shorts")
            elif not (self._trades["side"] == side).any():
                yield Row("", side, note=f"does not apply: the set has no {side} trade")
            else:
                yield Row("", side, figures, "without interest, fees and dividends of the account")

    def _of_account(self) -> Iterator[Row]:
        cash, sharpe = self._set.rules.initial_cash, self._base.figures.sharpe
        name, reason = "largest account", ""
        if not changes.meets_volume(self._set):
            reason = (
                "unknown: costs have neither impact nor max_volume_share, or the bars no volume"
            )
        elif sharpe is None or sharpe <= 0.0:
            reason = "does not apply: there is no Sharpe ratio above 0 to keep"
        if reason:
            self._account = Limit(None, reason)
            yield Row("", name, note=reason)
            return
        half = sharpe / 2.0 if sharpe is not None else 0.0
        rows: list[Row] = []

        def keeps(multiple: float) -> bool:
            figures = self._set.run(self._set.with_cash(multiple)).figures
            if math.log10(multiple).is_integer():
                rows.append(Row("", f"initial cash {cash * multiple:,.0f}", figures))
            return (figures.sharpe or 0.0) >= half

        keeps(1.0)
        self._account = largest_account(keeps)
        yield from rows
        multiple = self._account.multiple
        if multiple is None:
            yield Row("", name, note=self._account.note)
            return
        figures = self._set.run(self._set.with_cash(multiple)).figures
        yield Row("", f"{name}, {cash * multiple:,.0f}", figures, self._account.note)

    def _of_others(self) -> Iterator[Row]:
        if not self._others:
            yield Row("", "other symbols", note="none given; name their bars with --data FILE")
        for path in self._others:
            try:
                yield Row("", path.name, *self._on_others(path))
            except BarsweepError as error:
                yield Row("", path.name, note=f"does not apply: {error}")

    def _on_others(self, path: Path) -> tuple[Figures, str]:
        """The set on other bars up to the end of its own in-sample bars, and the symbols of these."""
        terms = self._exported.terms
        bars = load_bars(
            path,
            end=pd.Timestamp(self._set.inputs.bars.timestamps[-1], tz="UTC"),
            **{name: terms.data[name] for name in ("align", "timezone")},
            bar=terms.data.get("bar"),
        )
        without = dict.fromkeys(SIDE_FILES)
        document = self._exported.document
        if document.get("market") not in bars.symbols:
            document = {**document, "market": None}
        study = set_study(document, replace(terms, data={**terms.data, **without}))
        benchmark = terms.benchmark if terms.benchmark in bars.symbols else UNIVERSE
        base: Simulated = InSample(study, bars, None, 0.0, benchmark).run()
        left_out = [f"[data] {name}" for name in SIDE_FILES if terms.data.get(name)]
        note = f", without {' and '.join(left_out)}" if left_out else ""
        return base.figures, symbols_text(bars) + note
