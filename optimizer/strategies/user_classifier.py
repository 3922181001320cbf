"""A regime classifier of the user's own: two functions in a Python file, named in the study file.

The file declares::

    PARAMETERS = {"lookback": (20, 2, 500), "calm": (0.01, 0.0, 1.0)}

    def fit(returns):
        return np.array([np.std(returns)])

    def classify(returns, model, calm):
        return BULL if np.std(returns) < min(calm, model[0]) else BEAR

``PARAMETERS``: name -> (default, lowest, highest), as in a strategy. ``lookback``, ``train_bars`` and
``refit_bars`` have the defaults of the built-in classifiers where the file does not declare them.

``fit``: takes the market's log returns of the training window, shape (train_bars,), up to the bar of the
fit, and any of the parameters by name. It returns the model, one array of numbers; None keeps the model
before.

``classify``: takes the market's last ``lookback`` log returns, the bar's own among them, the model, and
any of the parameters. It returns the probabilities (bear, neutral, bull), or a code. It is called bar by
bar, and never sees a later bar.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from threadpoolctl import ThreadpoolController

from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.catalogue import Parameter
from optimizer.market.regime_models import N_REGIMES, CodeArray, FitError
from optimizer.strategies.bound_kernels import keep_source
from optimizer.strategies.classifier_declaration import (
    TAKEN,
    ClassifierDeclaration,
    classifier_from_dict,
    read_classifier_declaration,
)
from optimizer.strategies.recorded_source import OTHER_DECLARATION, FromUsersFile, named_source
from optimizer.strategies.user_file import StrategyFile, line_of, said_by, users_code
from optimizer.strategies.user_source import StrategySource, read_source
from optimizer.types import FloatArray

MOST_NUMBERS = 10_000_000
"""Numbers of a model."""

_CODES = (BEAR, NEUTRAL, BULL)

_SURE = {
    float(BEAR): (1.0, 0.0, 0.0),
    float(NEUTRAL): (0.0, 1.0, 0.0),
    float(BULL): (0.0, 0.0, 1.0),
}
"""Probabilities of a code."""

_loaded: dict[str, UserFunctions] = {}
"""The classifiers whose file this process has run, by the hash of what they are."""


@dataclass(frozen=True)
class UserClassifier(FromUsersFile):
    """A classifier of the user's own. Its file is run when it is first needed.

    Attributes:
        declaration: what its file declares.
    """

    declaration: ClassifierDeclaration

    def __str__(self) -> str:
        """Its name."""
        return self.declaration.name

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters with defaults and bounds, in the order of the result columns."""
        return self.declaration.parameters

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> UserClassifier:
        """The classifier that ``to_dict`` wrote. Runs no code.

        Args:
            content: the ``[classifier]`` table of a study file.

        Raises:
            ValueError: ``to_dict`` cannot have written it.
        """
        return cls(classifier_from_dict(content))

    def to_dict(self) -> dict[str, Any]:
        """The name, the file and what that declares, as plain values."""
        return self.declaration.to_dict()

    def fit(self, bar: int, returns: FloatArray, values: Mapping[str, float]) -> UserModel:
        """Fit on one window of returns.

        Args:
            bar: the bar of the fit, from 0, counted in bars of the market.
            returns: shape (train_bars,), log returns of the market.
            values: the value of each of its parameters.

        Returns:
            The fitted model.

        Raises:
            FitError: the function returned None.
            StrategyError: it raised, or did not return an array of numbers; names the place in its file.
        """
        functions = self.functions()
        with functions.running():
            found = functions.call("fit", values, returns=_copy(returns))
        if found is None:
            raise FitError("fit returned None")
        numbers = np.asarray(found)
        if numbers.dtype.kind not in "biuf" or numbers.size > MOST_NUMBERS:
            functions.refuse("fit", f"returned {_shown(found)}; expected one array of numbers")
        model = np.array(numbers, np.float64, order="C")
        if not np.isfinite(model).all():
            functions.refuse(
                "fit",
                f"returned {_shown(found)}; expected finite numbers, or None for no model",
            )
        model.flags.writeable = False
        return UserModel(bar, model, self, tuple(values.items()))

    def functions(self) -> UserFunctions:
        """The functions of its file. Runs the file once a process.

        Raises:
            UntrustedCodeError: the file is not approved.
            StrategyError: it is missing or has changed, and there is no copy.
        """
        if self.declaration.content_hash not in _loaded:
            self.provide(self.source())
        return _loaded[self.declaration.content_hash]

    def provide(self, given: StrategySource) -> None:
        """Make the classifier ready to run, also where its file is not on this machine.

        Args:
            given: its file, and the modules next to it.

        Raises:
            UntrustedCodeError: the source is not approved.
            StrategyError: the source differs from that of the study, or declares something else.
        """
        declaration = self.declaration
        if declaration.content_hash in _loaded:
            return
        source = self.run_file(given)
        found = read_classifier_declaration(source, declaration.name)
        if found.content_hash != declaration.content_hash:
            source.refuse(1, OTHER_DECLARATION)
        _load(declaration, source)


@dataclass(frozen=True, eq=False)
class UserModel:
    """What a user's ``fit`` returned at one bar; see ``RegimeModel``.

    Attributes:
        bar: bar of the fit.
        numbers: the model, read-only.
        classifier: the classifier.
        values: name and value of each of its parameters.
    """

    bar: int
    numbers: FloatArray
    classifier: UserClassifier
    values: tuple[tuple[str, float], ...]

    def carried(self) -> FloatArray:
        """Return an empty array: a decision does not depend on the bars before its window.

        Returns:
            Shape (0,).
        """
        return np.empty(0)

    def classify(
        self, features: FloatArray, carried: FloatArray, probabilities: FloatArray | None = None
    ) -> CodeArray:
        """Regime of each bar by the user's ``classify``, one call a bar; see ``RegimeModel``.

        Args:
            features: shape (n_bars, lookback), the last log returns of the market at each bar.
            carried: not used.
            probabilities: shape (n_bars, 2), written.

        Returns:
            Regime codes, shape (n_bars,).
        """
        functions, values = self.classifier.functions(), dict(self.values)
        codes = np.empty(len(features), np.int8)
        with functions.running():
            for t, window in enumerate(features):
                found = functions.call(
                    "classify", values, returns=_copy(window), model=self.numbers
                )
                shares = _probabilities(found)
                if shares is None:
                    functions.refuse(
                        "classify",
                        f"returned {_shown(found)}; expected the probabilities (bear, neutral, bull),"
                        " which sum to 1, or BEAR, NEUTRAL or BULL",
                    )
                codes[t] = _CODES[shares.index(max(shares))]
                if probabilities is not None:
                    probabilities[t] = shares[0], shares[2]
        return codes


@dataclass(frozen=True, eq=False)
class UserFunctions:
    """The functions of a classifier's file, ready to run.

    Attributes:
        source: the file, run.
        arguments: names of the arguments of each function.
        threads: what limits the threads of numeric libraries, so that no sum depends on their number.
    """

    source: StrategyFile
    arguments: Mapping[str, tuple[str, ...]]
    threads: ThreadpoolController

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run functions of the file inside."""
        with (
            users_code(),
            self.source.neighbours,
            np.errstate(all="ignore"),
            self.threads.limit(limits=1),
        ):
            yield

    def call(self, name: str, values: Mapping[str, float], **given: FloatArray) -> Any:
        """Call a function of the file, while ``running``.

        Args:
            name: one of ``TAKEN``.
            values: the value of each parameter of the classifier.
            **given: the arguments of ``TAKEN``.

        Returns:
            What it returned.

        Raises:
            StrategyError: it raised; names the line of the file.
        """
        own = {key: values[key] for key in self.arguments[name] if key in values}
        try:
            return getattr(self.source.module, name)(**given, **own)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.refuse(name, said_by(error), line_of(error, self.source.path))

    def refuse(self, name: str, message: str, line: int | None = None) -> NoReturn:
        """Raise a StrategyError with a line of the file.

        Args:
            name: the function.
            message: what is wrong.
            line: the line; None takes that of the function.
        """
        self.source.refuse(line or self.source.functions[name].lineno, f"{name}: {message}")


def _copy(returns: FloatArray) -> FloatArray:
    """A copy of its own, so that no result depends on how the array lies in memory."""
    given = np.array(returns, np.float64, order="C")
    given.flags.writeable = False
    return given


def _shown(value: object) -> str:
    """A value on one short line."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _probabilities(found: object) -> tuple[float, float, float] | None:
    """Probabilities of bear, neutral and bull; None if what was returned says none."""
    try:
        numbers = np.asarray(found)
    except (TypeError, ValueError):
        return None
    if numbers.dtype.kind not in "iuf":
        return None
    if numbers.shape == ():
        code = float(numbers)
        return _SURE.get(code)
    if numbers.shape != (N_REGIMES,):
        return None
    bear, neutral, bull = numbers.tolist()
    total = bear + neutral + bull
    # NaN is in no order to anything.
    if not (min(bear, neutral, bull) >= 0.0 and abs(total - 1.0) <= 1e-6):
        return None
    return bear / total, neutral / total, bull / total


def _load(declaration: ClassifierDeclaration, source: StrategyFile) -> None:
    keep_source(source.source)
    arguments = {name: source.arguments(name) for name in TAKEN}
    _loaded[declaration.content_hash] = UserFunctions(source, arguments, ThreadpoolController())


def read_classifier(path: str | Path, name: str) -> UserClassifier:
    """Read and check a classifier that the user names, and approve its file by that.

    Args:
        path: the path of the Python file.
        name: the name of the classifier.

    Returns:
        The classifier.

    Raises:
        StrategyError: the file cannot be used; names the place in it.
    """
    file = Path(path).resolve()
    return _read(file, name, named_source(file))


def read_recorded_classifier(path: str | Path, name: str) -> UserClassifier:
    """Read and check a classifier whose file recorded data names. Runs it only if it is approved.

    Args:
        path: the path of the Python file.
        name: the name of the classifier.

    Returns:
        The classifier.

    Raises:
        UntrustedCodeError: the file is not approved.
        StrategyError: it cannot be used; names the place in it.
    """
    file = Path(path).resolve()
    return _read(file, name, read_source(file))


def _read(file: Path, name: str, given: StrategySource) -> UserClassifier:
    source = StrategyFile(file, given)
    declaration = read_classifier_declaration(source, name)
    _load(declaration, source)
    return UserClassifier(declaration)
