"""The simulation compiled once more for a strategy, with its signal in the middle, cached by numba.

numba does not cache a function that takes another as an argument, and its cache never hits for a
closure. So for each strategy modules are written to the folder of compiled kernels: one that takes the
place of ``kernels.user_signal``, and a copy of each module of ``kernels`` that depends on it, importing
its counterparts. Their names hold the hash of everything that goes into them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import kernels.lanes.decisions
import kernels.lanes.user_signals
import kernels.simulation
import kernels.user_signal
from optimizer.compile_cache import IDLE_SECONDS, exclusive
from optimizer.strategies.declaration import BAR_ARGUMENTS
from optimizer.strategies.position_values import EXTREMES, POSITION_VALUES
from optimizer.strategies.user_source import StrategySource

BOUND = (kernels.lanes.user_signals, kernels.lanes.decisions, kernels.simulation)
"""The modules that depend on ``kernels.user_signal``, each after those that it imports."""

KEPT_STRATEGIES = 50
"""Compiled strategies that are kept; each edit of a file adds one, of about 1 MB."""

_SHARPE = "sharpe"
"""Argument of a signal for the Sharpe ratio per bar that a score of 1 is worth."""


@dataclass(frozen=True)
class Adapter:
    """The module that takes the place of ``kernels.user_signal``.

    It refers to arguments by position only: no name that a file declares appears in it.

    Attributes:
        n_features, n_parameters: numbers of columns (features, then probabilities of the regime) and of
            signal values that the signal takes.
        position_values: what it takes of the position, of ``POSITION_VALUES``.
        scored: whether it takes the Sharpe ratio per bar that a score of 1 is worth, last of all.
    """

    n_features: int
    n_parameters: int
    position_values: tuple[str, ...]
    scored: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features in the module."""
        return tuple(f"x{i}" for i in range(self.n_features))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the signal values in the module."""
        return tuple(f"p{i}" for i in range(self.n_parameters))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of its ``user_signal``, in order."""
        last = (_SHARPE,) if self.scored else ()
        return *self.features, *self.position_values, *BAR_ARGUMENTS, *self.parameters, *last

    def text(self, body: str) -> str:
        """The source of the module.

        Args:
            body: the source of ``user_signal``, a function of ``arguments``.
        """
        rows = [
            f"_X{i}, _F{i} = USER_X0 + _row({i}), USER_FEATURE_0 + _row({i})"
            for i in range(self.n_features)
        ]
        rows += [f"_P{i} = SIGNAL_0 + _row({i})" for i in range(self.n_parameters)]
        columns = "".join(f"features[t, s, columns[c + _F{i}]], " for i in range(self.n_features))
        values = [f"of_lane(shared[{i}], scratch, _X{i}, b, own)" for i in range(self.n_features)]
        values += [*self.position_values, *BAR_ARGUMENTS]
        values += [f"parameters[q + _P{i} + b]" for i in range(self.n_parameters)]
        values += ["parameters[q + SCORE_SHARPE + b]"] if self.scored else []
        newline = "\n"
        position = ""
        if self.position_values:
            extremes = not EXTREMES.isdisjoint(self.position_values)
            position = f"""{", ".join(POSITION_VALUES)} = lane_position(
        positions, p, b, close, counts, {extremes or None}
    )
    """
        return f'''"""A signal in the place of kernels.user_signal. Written by barsweep."""

import numpy as np

from kernels._jit import jit, jit_borrowing
from kernels.combining import add_vote, add_weight, elected, first_signal, weighed
from kernels.lanes.gathering import lane_position, of_lane
from kernels.layout import SCORE_SHARPE, SIGNAL_0, STRIDE, USER_FEATURE_0, USER_X0
from kernels.signals import usable_signal


def _row(number):
    return np.uint64(number * STRIDE)


GIVEN = True
N_USER_FEATURES = {self.n_features}
POSITION_AWARE = {bool(self.position_values)}
{newline.join(rows)}


{body}


@jit_borrowing
def shared_features(c, t, s, features, columns):
    return ({columns})


@jit_borrowing
def lane_signal(
    shared, p, q, b, close, volatility, inverse_volatility, parameters, positions, scratch, counts, own
):
    {position}return user_signal(
        {f",{newline}        ".join(values)}
    )
'''


@dataclass(frozen=True, eq=False)
class BoundKernels:
    """What was compiled for a strategy.

    Attributes:
        signal: the module that takes the place of ``kernels.user_signal``.
        simulate: the same function as ``kernels.simulation.simulate``, for this strategy only; compiles
            at its first call.
    """

    signal: ModuleType
    simulate: Callable[..., None]


def bind(
    adapter: str,
    given: Mapping[str, object],
    parts: Sequence[str],
    check: Callable[[ModuleType], None],
    sources: Mapping[str, bytes],
) -> BoundKernels:
    """Compile the signal of a strategy, unless it is in the cache, and prepare its simulation.

    Args:
        adapter: the source of the module that takes the place of ``kernels.user_signal``.
        given: functions that it reads, by name, which numba compiles into it.
        parts: texts that tell those functions from others.
        check: compiles the signal; called where nobody has done so yet.
        sources: content of files that are kept with what was compiled, by relative path.

    Returns:
        The compiled signal, and the simulation.
    """
    texts = [inspect.getsource(module) for module in BOUND]
    content = "\0".join((*parts, adapter, *texts))
    key = hashlib.sha256(content.encode()).hexdigest()[:20]
    names = _own_names(key)
    # numba recognizes what it has compiled by the path and the time of these files.
    folder = strategies_folder() / key
    signal = _module(folder, names[kernels.user_signal.__name__], adapter, given)
    checked = folder / "checked"
    if not checked.exists():
        with exclusive():
            check(signal)
            for name, content_of in sources.items():
                _write(folder / name, content_of)
            checked.touch()
            _remove_old()
    else:
        with contextlib.suppress(OSError):
            os.utime(checked)
    simulation: Any = None
    for module, text in zip(BOUND, texts, strict=True):
        simulation = _module(folder, names[module.__name__], _bound(text, names), {})
    return BoundKernels(signal, simulation.simulate)


def kept_files(source: StrategySource) -> dict[str, bytes]:
    """The files of a source as they are kept next to what was compiled, by relative path.

    Args:
        source: a user's file, and the modules next to it.
    """
    return {
        f"{source.hash}.py": source.content,
        **{f"{source.hash}/{name}": content for name, content in source.modules},
    }


def keep_source(source: StrategySource) -> None:
    """Keep a copy of a source of which nothing is compiled, as ``bind`` keeps that of a strategy.

    Args:
        source: a user's file, and the modules next to it.
    """
    folder = strategies_folder() / source.hash[:20]
    checked = folder / "checked"
    files = kept_files(source)
    if checked.exists() and all((folder / name).exists() for name in files):
        with contextlib.suppress(OSError):
            os.utime(checked)
        return
    with exclusive():
        for name, content in files.items():
            _write(folder / name, content)
        checked.touch()
        _remove_old()


def strategies_folder() -> Path:
    """The folder of the compiled strategies, inside that of the kernels, keyed by kernel sources."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"]) / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove_old() -> None:
    """Remove all but the most recently used strategies, and numba's cache files of the removed ones."""
    with contextlib.suppress(OSError):
        used = sorted(
            ((path.stat().st_mtime, path.parent) for path in strategies_folder().glob("*/checked")),
            reverse=True,
        )
        for last_use, path in used[KEPT_STRATEGIES:]:
            if time.time() - last_use > IDLE_SECONDS:
                for one in (path, *path.parent.parent.glob(f"{path.name}_*")):
                    shutil.rmtree(one, ignore_errors=True)


def _bound(text: str, names: Mapping[str, str]) -> str:
    """Source of a module with the modules that it imports replaced by name."""
    for name, own in names.items():
        text = re.sub(rf"\b{re.escape(name)}\b", own, text)
    return text


def _own_names(key: str) -> dict[str, str]:
    """Name of each module that is written for a strategy, by that of its counterpart."""
    modules = (kernels.user_signal, *BOUND)
    return {one.__name__: f"barsweep_{key}_{one.__name__.split('.')[-1]}" for one in modules}


def _module(folder: Path, name: str, text: str, given: Mapping[str, object]) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    path = folder / f"{name}.py"
    content = text.encode()
    # What is there runs, so it must be what was written.
    if not path.is_file() or path.read_bytes() != content:
        _write(path, content)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module).update(given)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
