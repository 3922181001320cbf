"""A strategy of the user's own: one pure function in a Python file, named in the study file.

The file declares, next to whatever else it holds::

    PARAMETERS = {"lookback": (60, 2, 500), "threshold": (0.02, 0.0, 1.0)}
    FEATURES = {"momentum": ("momentum", "lookback")}

    def signal(momentum, volatility, threshold):
        return (LONG if momentum > threshold else HOLD), 0.05 * volatility, 1.0

``PARAMETERS``: name -> (default, lowest, highest). The parameter is a whole number if all three are.

``FEATURES``: argument of ``signal`` -> (feature, its parameters...), each the name of a parameter of
the file or a fixed number. A feature is the name of a built-in one, or a function of the file. Such a
function takes any of ``open``, ``high``, ``low``, ``close``, ``volume``: the bars of one symbol, each of
shape (n_bars,) and read-only; its other arguments are its parameters, in order. It returns an array of
shape (n_bars,). Its whole-number parameters count as lookbacks: as many values as their sum at the
start are not used. The value at a bar may depend only on that bar and earlier ones.
``look_ahead_check`` tests this, and the event flow passes no later bars.

``signal``: takes numbers and returns (direction, strength, confidence). In addition to features and
parameters, its arguments may be ``close``, ``volatility`` (the one that sizes the position) and
``inverse_volatility`` (0 where the volatility is 0), what it wants to know of the position in the
symbol, see ``kernels.portfolio.position_at_close``, and the probabilities of the market's regime,
``bear_probability`` and ``bull_probability``. It is compiled into the loop over lanes. An
unusable result there (an unknown direction, a strength that is negative or not finite, a confidence
outside 0..1) counts as HOLD: the position stays.

The file may import modules that lie next to it, such as ``import my_features``; they count as part of
it. Loading a strategy runs the file, if the user has named or approved it: see ``approvals``. A study is
rebuilt from the declaration, without running it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kernels import codes, layout
from optimizer.strategies.declaration import Declaration
from optimizer.strategies.file_declaration import read_declaration
from optimizer.strategies.recorded_declaration import declaration_from_dict
from optimizer.strategies.recorded_source import OTHER_DECLARATION, FromUsersFile, named_source
from optimizer.strategies.strategy import Rule, Strategy
from optimizer.strategies.user_file import StrategyFile
from optimizer.strategies.user_kernels import CustomKernels, compile_strategy
from optimizer.strategies.user_source import StrategySource, read_source
from optimizer.types import FloatArray

_compiled: dict[Declaration, CustomKernels] = {}
"""The strategies whose file this process has run, with what was compiled from each."""


@dataclass(frozen=True)
class UserStrategy(FromUsersFile, Strategy):
    """A strategy of the user's own. Its kernels are compiled when they are first needed.

    Attributes:
        declaration: what its file declares.
    """

    declaration: Declaration

    @classmethod
    def of(cls, declaration: Declaration) -> UserStrategy:
        """The strategy that a file declares. Runs no code.

        Args:
            declaration: the declaration of the file.
        """
        features = tuple(use for _, use in declaration.features)
        return cls(declaration.name, declaration.parameters, features, declaration)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> UserStrategy:
        """The strategy that ``to_dict`` wrote. Runs no code.

        Args:
            content: the ``[strategy]`` table of a study file.

        Raises:
            ValueError: ``to_dict`` cannot have written it.
        """
        return cls.of(declaration_from_dict(content))

    @property
    def code(self) -> int:
        """Code of its signal kernel: that of every user's strategy."""
        return codes.CUSTOM

    @property
    def simulation(self) -> str:
        """Its name: each strategy of the user's has a compiled simulation of its own."""
        return self.name

    @property
    def first_feature(self) -> np.uint64:
        """Offset of the column of its first feature."""
        return layout.USER_FEATURE_0

    @property
    def regime_values(self) -> tuple[str, ...]:
        """Names of the probabilities of the regime that ``signal`` takes."""
        return self.declaration.regime_values

    @property
    def position_values(self) -> tuple[str, ...]:
        """Names of the values of the position that ``signal`` takes."""
        return self.declaration.position_values

    def signal_values(self, own: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
        """The parameters that ``signal`` takes, see ``Strategy.signal_values``.

        Args:
            own: its parameters by name, each of shape (n_lanes,).

        Returns:
            Arrays of shape (n_lanes,), in the order of the arguments of ``signal``.
        """
        return tuple(own[name] for name in self.declaration.signal_parameters)

    def simulate(self, *arguments: Any) -> None:
        """Walk bars with lanes of this strategy.

        Args:
            *arguments: arguments of ``kernels.simulation.simulate``, in its order.

        Raises:
            SignalError: the user's function raised.
            StrategyError: the file is missing or has changed, and there is no copy.
        """
        kernels = self.kernels()
        kernels.call(kernels.simulate, *arguments)

    def rule(self) -> Rule:
        """The user's ``signal`` for one symbol at one bar, unusable results turned into HOLD.

        Raises:
            StrategyError: the file is missing or has changed, and there is no copy.
        """
        kernels = self.kernels()

        def rule(
            x: Sequence[float],
            p: Sequence[float],
            close: float,
            volatility: float,
            inverse: float,
            sharpe: float,
        ) -> tuple[float, float, float]:
            found: tuple[float, float, float] = kernels.call(
                kernels.signal, *x, close, volatility, inverse, *p
            )
            return found

        return rule

    def to_dict(self) -> dict[str, Any]:
        """The name of the strategy, its file and what that declares, as plain values."""
        return self.declaration.to_dict()

    def kernels(self) -> CustomKernels:
        """What was compiled from its file. Runs the file; compiles nothing twice.

        Raises:
            StrategyError: the file is missing or has changed, and there is no copy.
        """
        if self.declaration not in _compiled:
            self.provide(self.source())
        return _compiled[self.declaration]

    def provide(self, given: StrategySource) -> None:
        """Make the strategy ready to run, also where its file is not on this machine.

        Runs the source; compiles nothing twice.

        Args:
            given: its file, and the modules next to it.

        Raises:
            UntrustedCodeError: the source is not approved.
            StrategyError: the source differs from that of the study, declares something else, or
                cannot be compiled.
        """
        declaration = self.declaration
        if declaration in _compiled:
            return
        source = self.run_file(given)
        found = read_declaration(source, declaration.name)
        if replace(found, path=declaration.path) != declaration:
            source.refuse(1, OTHER_DECLARATION)
        _compiled[declaration] = compile_strategy(declaration, source)


def read_strategy(path: str | Path, name: str) -> UserStrategy:
    """Read and check a strategy that the user names, and approve its file by that.

    Runs the file; compiles nothing twice. For a file that recorded data names there is
    ``read_recorded_strategy``.

    Args:
        path: the path of the Python file.
        name: the name of the strategy.

    Returns:
        The strategy; its kernels are compiled when they are first needed.

    Raises:
        StrategyError: the file cannot be used; names the place in it.
    """
    file = Path(path).resolve()
    return _loaded(file, name, named_source(file))


def read_recorded_strategy(path: str | Path, name: str) -> UserStrategy:
    """Read and check a strategy whose file recorded data names. Runs it only if it is approved.

    Args:
        path: the path of the Python file.
        name: the name of the strategy.

    Returns:
        The strategy; its kernels are compiled when they are first needed.

    Raises:
        UntrustedCodeError: the file is not approved.
        StrategyError: it cannot be used; names the place in it.
    """
    file = Path(path).resolve()
    return _loaded(file, name, read_source(file))


def _loaded(file: Path, name: str, given: StrategySource) -> UserStrategy:
    for known in _compiled:
        if (known.name, known.path, known.source_hash) == (name, str(file), given.hash):
            return UserStrategy.of(known)
    source = StrategyFile(file, given)
    declaration = read_declaration(source, name)
    _compiled[declaration] = compile_strategy(declaration, source)
    return UserStrategy.of(declaration)
