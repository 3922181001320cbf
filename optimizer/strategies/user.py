"""A strategy of the user's own: one pure function in a Python file, named in the study file.

The file declares, beside whatever else it holds::

    PARAMETERS = {"lookback": (60, 2, 500), "threshold": (0.02, 0.0, 1.0)}
    FEATURES = {"momentum": ("momentum", "lookback")}

    def signal(momentum, volatility, threshold):
        return (LONG if momentum > threshold else HOLD), 0.05 * volatility, 1.0

``PARAMETERS``: name -> (default, lowest, highest); whole numbers where all three are.
``FEATURES``: argument of ``signal`` -> (feature, the parameter that is its lookback). A feature is a
built-in's name, or a function of the file: of the arguments ``open``, ``high``, ``low``, ``close``,
``volume`` that it names, each (n_bars,) and read-only, of one symbol, and of ``lookback``, to its
(n_bars,) values, of which the first ``lookback`` are not used. A bar's value may depend on that bar
and those before it alone: ``look_ahead_check`` tests it, and the event flow hands over no others.
``signal``: numbers in, (direction, strength, confidence) out. Beside features and parameters its
arguments may be ``close``, ``volatility`` (that by which the position is sized) and
``inverse_volatility`` (0 where the volatility is 0). It is compiled into the loop over lanes. What is
no signal there (an unknown direction, a strength that is not finite or below 0, a confidence outside
0..1) is HOLD: the position stays.

Loading a strategy runs the file. A study is rebuilt from what was declared, without running it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from optimizer.errors import StrategyError
from optimizer.strategies.user_file import CustomStrategy, StrategyFile, read_bytes
from optimizer.strategies.user_kernels import CustomKernels, compile_strategy, strategies_folder
from optimizer.text import shown


def read_custom(path: str | Path, name: str) -> CustomStrategy:
    """Read and check a user's strategy. Runs its file, and compiles it where that is not done yet.

    Args:
        path: the file.
        name: of the strategy.

    Raises:
        StrategyError: with the place in the file.
    """
    file = Path(path).resolve()
    content = read_bytes(file)
    hash_ = hashlib.sha256(content).hexdigest()
    for known in _loaded:
        if (known.name, known.path, known.source_hash) == (name, str(file), hash_):
            return known
    logging.getLogger("barsweep.code").info("runs code from %s", shown(file))
    source = StrategyFile(file, content)
    custom = source.declaration(name)
    _loaded[custom] = compile_strategy(custom, source)
    return custom


_loaded: dict[CustomStrategy, CustomKernels] = {}
"""What this process has run and compiled."""


def load_custom(custom: CustomStrategy) -> CustomKernels:
    """What a strategy runs by. Runs its file; compiles nothing that has been compiled before.

    Raises:
        StrategyError: the file is gone or changed, and there is no copy.
    """
    if custom not in _loaded:
        provide_custom(custom, source_of(custom))
    return _loaded[custom]


def provide_custom(custom: CustomStrategy, content: bytes) -> None:
    """Make a strategy ready to run from the content of its file, which need not be on this machine.

    Runs it; compiles nothing that has been compiled before.

    Raises:
        StrategyError: the content is not that of the strategy, or cannot be compiled.
    """
    if custom in _loaded:
        return
    path = Path(custom.path)
    if hashlib.sha256(content).hexdigest() != custom.source_hash:
        raise StrategyError(f"{shown(path)}: not the file of then ({custom.source_hash[:12]})")
    _loaded[custom] = compile_strategy(custom, StrategyFile(path, content))


def source_of(custom: CustomStrategy) -> bytes:
    """Content of a strategy's file. Where that has changed, of the copy kept beside the kernels.

    Raises:
        StrategyError: the file is gone or changed, and there is no copy.
    """
    path = Path(custom.path)
    try:
        content = read_bytes(path)
    except StrategyError:
        content = b""
    if hashlib.sha256(content).hexdigest() != custom.source_hash:
        kept = next(strategies_folder().glob(f"*/{custom.source_hash}.py"), None)
        content = kept.read_bytes() if kept is not None else b""
        if hashlib.sha256(content).hexdigest() != custom.source_hash:
            raise StrategyError(
                f"{shown(path)}: {'has changed' if path.exists() else 'is gone'} since the study"
                f" ran (recorded hash {custom.source_hash[:12]}); put the file of then back"
            )
    return content
