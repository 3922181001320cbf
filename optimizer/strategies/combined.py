"""Several strategies in one account: their signals for a symbol become one, by a rule."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
from numba import float64

from kernels import codes, layout
from kernels._jit import jit_into_callers
from optimizer.catalogue import Parameter
from optimizer.errors import SignalError
from optimizer.strategies.bound_kernels import Adapter, BoundKernels, bind
from optimizer.strategies.built_in import BuiltInStrategy
from optimizer.strategies.declaration import BAR_ARGUMENTS
from optimizer.strategies.position_values import POSITION_VALUES
from optimizer.strategies.regime_values import REGIME_VALUES
from optimizer.strategies.strategy import FeatureUse, Rule, Strategy
from optimizer.strategies.user import UserStrategy
from optimizer.types import FloatArray

RULES = ("vote", "sum", "first")
"""How signals become one, see ``kernels.combining``."""

SHARE = Parameter("share", float, 1.0, 0.0, 1000.0, "signal", "what its weight counts in the sum")
"""Parameter of each strategy where their weights are summed."""

_NAME = re.compile(rf"({'|'.join(RULES)})\(([^()]+)\)")

_compiled: dict[CombinedStrategy, BoundKernels] = {}
"""The combined strategies that this process has compiled."""


@dataclass(frozen=True)
class CombinedStrategy(Strategy):
    """Strategies whose signals for a symbol become one. Its parameters are named like their columns.

    Attributes:
        parts: the strategies, in the order of the study file.
        how: one of ``RULES``.
    """

    parts: tuple[Strategy, ...]
    how: str

    @classmethod
    def of(cls, parts: Sequence[Strategy], how: str) -> CombinedStrategy:
        """The strategy that combines some.

        Args:
            parts: two or more, of different names.
            how: one of ``RULES``.
        """
        parameters: list[Parameter] = []
        features: list[FeatureUse] = []
        for part in parts:
            own = (*part.parameters, *([SHARE] if how == "sum" else []))
            parameters += (replace(one, name=part.column(one.name)) for one in own)
            features += (
                (name, *(part.column(one) if isinstance(one, str) else one for one in given))
                for name, *given in part.features
            )
        name = combined_name([part.name for part in parts], how)
        return cls(name, tuple(parameters), tuple(features), tuple(parts), how)

    @property
    def members(self) -> tuple[Strategy, ...]:
        """The strategies, in the order of the study file."""
        return self.parts

    @property
    def code(self) -> int:
        """Code of its signal kernel: that of every signal that is compiled for a study."""
        return codes.CUSTOM

    @property
    def simulation(self) -> str:
        """Its name: it has a compiled simulation of its own."""
        return self.name

    @property
    def first_feature(self) -> np.uint64:
        """Offset of the column of its first feature."""
        return layout.USER_FEATURE_0

    @property
    def regime_values(self) -> tuple[str, ...]:
        """Names of the probabilities of the regime that any of its strategies takes."""
        taken = {name for part in self.parts for name in part.regime_values}
        return tuple(name for name in REGIME_VALUES if name in taken)

    @property
    def position_values(self) -> tuple[str, ...]:
        """Names of the values of the position that any of its strategies takes."""
        taken = {name for part in self.parts for name in part.position_values}
        return tuple(name for name in POSITION_VALUES if name in taken)

    def column(self, parameter: str) -> str:
        """The column of a parameter: its name, which begins with that of its strategy.

        Args:
            parameter: the name of the parameter.
        """
        return parameter

    def signal_values(self, own: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
        """The values that the signals of its strategies take, one strategy after the other.

        Args:
            own: its parameters by name, each of shape (n_lanes,).

        Returns:
            Arrays of shape (n_lanes,), for each strategy those that it takes, and its share where weights
            are summed.
        """
        values: list[FloatArray] = []
        for part in self.parts:
            values += part.signal_values(part.own(own))
            if self.how == "sum":
                values.append(own[part.column(SHARE.name)])
        return tuple(values)

    @property
    def n_signal_values(self) -> int:
        """The number of values that ``signal_values`` gives for each lane."""
        shares = len(self.parts) if self.how == "sum" else 0
        return sum(_n_values(part) for part in self.parts) + shares

    def simulate(self, *arguments: Any) -> None:
        """Walk bars with lanes of this strategy.

        Args:
            *arguments: arguments of ``kernels.simulation.simulate``, in its order.

        Raises:
            SignalError: a user's function raised.
            StrategyError: a user's file is missing or has changed, and there is no copy.
        """
        self._call(self._kernels().simulate, *arguments)

    def rule(self) -> Rule:
        """The combined signal for one symbol at one bar.

        Raises:
            StrategyError: a user's file is missing or has changed, and there is no copy.
        """
        signal = self._kernels().signal.user_signal

        def rule(
            x: Sequence[float],
            p: Sequence[float],
            close: float,
            volatility: float,
            inverse: float,
            sharpe: float,
        ) -> tuple[float, float, float]:
            found: tuple[float, float, float] = self._call(
                signal, *x, close, volatility, inverse, *p, sharpe
            )
            return found

        return rule

    def to_dict(self) -> dict[str, Any]:
        """The name, which names the rule and the strategies."""
        return {"name": self.name}

    def _call(self, function: Any, *arguments: Any) -> Any:
        users = [part.kernels() for part in self.parts if isinstance(part, UserStrategy)]
        if not users:
            return function(*arguments)
        try:
            return users[0].call(function, *arguments)
        except SignalError as error:
            if len(users) == 1:
                raise
            # They are compiled into one function, which does not say which of them it was in.
            places = " or ".join(one.place for one in users)
            raise SignalError(f"{places}: {str(error).partition(': ')[2]}") from None

    @cached_property
    def _adapter(self) -> Adapter:
        n_columns = len(self.features) + len(self.regime_values)
        return Adapter(n_columns, self.n_signal_values, self.position_values, scored=True)

    def _kernels(self) -> BoundKernels:
        """What was compiled of it. Runs the files of users' strategies; compiles nothing twice."""
        if self not in _compiled:
            adapter = self._adapter
            given: dict[str, object] = {}
            texts: list[str] = []
            for i, part in enumerate(self.parts):
                if isinstance(part, UserStrategy):
                    kernels = part.kernels()
                    given[f"_signal{i}"] = kernels.plain
                    texts += kernels.parts
                elif isinstance(part, BuiltInStrategy):
                    given[f"_signal{i}"] = jit_into_callers(part.scalar)
                    texts.append(inspect.getsource(part.scalar))
            text = adapter.text(_source(self.parts, self.how, adapter, self.regime_values))

            def check(module: ModuleType) -> None:
                module.user_signal.compile((float64,) * len(adapter.arguments))

            _compiled[self] = bind(text, given, texts, check, {})
        return _compiled[self]


def combined_name(names: Sequence[str], how: str) -> str:
    """The name of a combined strategy; ``named_parts`` reads it.

    Args:
        names: those of the strategies, in order.
        how: one of ``RULES``.
    """
    return f"{how}({'+'.join(names)})"


def named_parts(name: str) -> tuple[str, tuple[str, ...]]:
    """What the name of a strategy says.

    Args:
        name: the name of a strategy, combined or not.

    Returns:
        The rule, empty for a strategy that is not combined, and the names of the strategies.
    """
    found = _NAME.fullmatch(name)
    return ("", (name,)) if found is None else (found[1], tuple(found[2].split("+")))


def _n_values(part: Strategy) -> int:
    """Number of the signal values of a strategy."""
    ones = {parameter.name: np.ones(1) for parameter in part.parameters}
    return len(part.signal_values(ones))


def _source(
    parts: Sequence[Strategy], how: str, adapter: Adapter, regime_values: Sequence[str]
) -> str:
    """Source of the function that combines the signals."""
    # The last of its columns.
    regime = dict(zip(reversed(regime_values), reversed(adapter.features), strict=False))
    features, values = iter(adapter.features), iter(adapter.parameters)
    lines = []
    signals, shares = [], []
    for i, part in enumerate(parts):
        x = [next(features) for _ in part.features]
        p = [next(values) for _ in range(_n_values(part))]
        shares.append(next(values) if how == "sum" else "")
        if isinstance(part, UserStrategy):
            declared = part.declaration
            names = (
                *(argument for argument, _ in declared.features),
                *declared.signal_parameters,
                *declared.regime_values,
                *declared.position_values,
                *BAR_ARGUMENTS,
            )
            chances = [regime[name] for name in declared.regime_values]
            own = (*x, *p, *chances, *declared.position_values, *BAR_ARGUMENTS)
            places = dict(zip(names, own, strict=True))
            given = ", ".join(places[argument] for argument in declared.arguments)
        else:
            groups = [f"({''.join(f'{one}, ' for one in group)})" for group in (x, p)]
            given = ", ".join((*groups, *BAR_ARGUMENTS, "sharpe"))
        said = [f"{letter}{i}" for letter in ("d", "s", "c")]
        lines += [
            f"a{i}, b{i}, e{i} = _signal{i}({given})",
            f"{', '.join(said)} = usable_signal(float(a{i}), float(b{i}), float(e{i}))",
        ]
        signals.append(", ".join(said))
    lines += {"first": _first, "vote": _vote, "sum": _sum}[how](signals, shares)
    body = "\n    ".join(lines)
    return f"@jit\ndef user_signal({', '.join(adapter.arguments)}):\n    {body}"


def _first(signals: Sequence[str], shares: Sequence[str]) -> list[str]:
    lines = [f"d, s, c = {signals[0]}"]
    lines += [f"d, s, c = first_signal(d, s, c, {one})" for one in signals[1:]]
    return [*lines, "return d, s, c"]


def _vote(signals: Sequence[str], shares: Sequence[str]) -> list[str]:
    lines = ["l, ls, lc, h, hs, hc, f, fs, fc = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0"]
    for one in signals:
        lines += [
            f"l, ls, lc = add_vote({float(codes.LONG)}, l, ls, lc, {one})",
            f"h, hs, hc = add_vote({float(codes.SHORT)}, h, hs, hc, {one})",
            f"f, fs, fc = add_vote({float(codes.FLAT)}, f, fs, fc, {one})",
        ]
    return [*lines, "return elected(l, ls, lc, h, hs, hc, f)"]


def _sum(signals: Sequence[str], shares: Sequence[str]) -> list[str]:
    lines = ["n, g, k = 0.0, 0.0, 0.0"]
    lines += [
        f"n, g, k = add_weight(n, g, k, {share}, {one})"
        for one, share in zip(signals, shares, strict=True)
    ]
    return [*lines, "return weighed(n, g, k)"]
