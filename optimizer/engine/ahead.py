"""Compile some kernels of a study in another process, while this one computes its features.

numba compiles one function at a time in each process, so a second core needs a second process. That one
keeps what it compiles in a folder of its own, as two processes that write to one folder can leave it
broken; what is done is taken over from there.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from joblib import cpu_count
from numba import typeof
from numba.core import types

from kernels.codes import MARKET_ENTRY
from kernels.inference import raise_maxima, score_sets
from kernels.lanes.decisions import decide_lanes
from kernels.lanes.fills import fill_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.sums import sum_bars
from optimizer.engine.processes import start_worker
from optimizer.isolation import safe_children

if TYPE_CHECKING:  # what only this process needs, and takes long to import
    from optimizer.study_file.space import Space
    from optimizer.sweep.inputs import Inputs
    from optimizer.sweep.rules import Rules
    from optimizer.types import Bars

PARTS = DECISIONS, SCORES, CLASSIFIERS = "decisions", "scores", "classifiers"
"""What the other process compiles, in this order."""

_PREFIX = "ahead-"
"""Of the name of its folder, inside that of this process; the process ID of this one follows."""

_U64, _I64, _F64, _OFF, _ON = types.uint64, types.int64, types.float64, types.none, types.boolean
_ROWS = types.Array(_F64, 1, "C")
_TABLE = types.Array(_F64, 2, "C")
_DRAWS = types.Array(types.float32, 2, "C")


_tuple_of: Any = types.Tuple
_type_of: Any = typeof


def _given(kind: Any, n_dimensions: int) -> Any:
    """The type of an array that is shared by all tiles."""
    return types.Array(kind, n_dimensions, "C", readonly=True)


_ARGUMENTS = {
    "k": _U64,
    "n": _U64,
    "t": _I64,
    "decided": _I64,
    "closes": _given(_F64, 2),
    "prices": _given(_F64, 2),
    "traded": _given(types.uint8, 2),
    "volumes": _given(_F64, 2),
    "counted": _given(types.uint8, 1),
    "rates": _given(_F64, 2),
    "leverage": _F64,
    "fills": types.Array(_F64, 4, "C"),
    "atrs": _given(_F64, 2),
    "features": _given(_F64, 3),
    "volatilities": _given(_F64, 3),
    "inverse_volatilities": _given(_F64, 3),
    "regimes": _given(types.int8, 2),
    "live": _given(types.uint8, 2),
    "instruments": _given(_F64, 2),
    "columns": types.Array(_U64, 1, "C"),
    "parameters": _ROWS,
    "state": _ROWS,
    "positions": _ROWS,
    "pending": types.Array(types.uint8, 2, "C"),
    "scratch": _ROWS,
    "recent": _ROWS,
    "ranks": _ROWS,
    "strategy": _I64,
    "same": types.uint8,
    "runs": types.Array(_U64, 2, "C"),
    "signals": _tuple_of((_F64, _F64, _F64, _F64, _ON)),
    "sizing": _I64,
    "allocation": _I64,
}
"""Types of the arguments of lane functions that are no options, by their names."""

_SCORES = (
    *(_TABLE, _ROWS, _ROWS, _ROWS, _ROWS, _F64, _ROWS, _TABLE, _DRAWS),
    types.Array(_I64, 1, "C"),
)
_MAXIMA = (_DRAWS, _given(types.float32, 2), types.Array(types.float32, 1, "C"))


@dataclass(frozen=True)
class Job:
    """What to compile of a study ahead of its simulation.

    Attributes:
        options: arguments of lane functions that are options, by name: whether they are on.
        built_in: whether any strategy is built in; those of users have simulations of their own.
        classifiers: names of the catalogue.
        joint: whether symbols lack bars.
    """

    options: dict[str, bool]
    built_in: bool
    classifiers: tuple[str, ...]
    joint: bool

    @classmethod
    def of(cls, space: Space, rules: Rules, bars: Bars) -> Job:
        """The job of a study.

        Args:
            space: the space of the study.
            rules: the rules of the study.
            bars: the bars of the study.
        """
        from optimizer.sweep.universe import symbol_ends

        ends = bool((symbol_ends(bars) >= 0).any())
        named = {one.classifier for one in space.branches if one.own_classifier is None}
        return cls(
            {
                "correlation": rules.correlated,
                "values": rules.correlated,
                "stops": rules.stops,
                "short": rules.allow_short,
                "extended": rules.extended or ends or bars.payments is not None,
                "entries": rules.entry != MARKET_ENTRY,
                "fees": rules.fees,
                "close_fill": rules.close_fill,
            },
            any(not one.strategy.simulation for one in space.branches),
            tuple(sorted(named - {"none"})),
            bars.present is not None,
        )

    def fits(self, inputs: Inputs) -> bool:
        """Whether the simulation of these inputs calls its parts with the types that are compiled.

        Args:
            inputs: the prepared inputs of the study.
        """
        bars, rules = inputs.bars, inputs.rules
        given = {
            "closes": bars.close,
            "prices": bars.close if rules.close_fill else bars.open,
            "traded": bars.traded,
            "volumes": inputs.volumes,
            "counted": inputs.counted,
            "rates": inputs.rates,
            "atrs": inputs.atrs,
            "volatilities": inputs.volatilities,
            "inverse_volatilities": inputs.inverse_volatilities,
            "live": inputs.live,
            "instruments": rules.instruments,
        }
        return self.options["extended"] == inputs.extended and all(
            _type_of(value) == _ARGUMENTS[name] for name, value in given.items()
        )

    def arguments(self, function: Callable[..., None]) -> tuple[Any, ...]:
        """What the simulation of the study calls a lane function with.

        Args:
            function: the lane function.

        Returns:
            The types of its arguments, in its order.
        """
        on: dict[str, Any] = {name: _ON if given else _OFF for name, given in self.options.items()}
        for name in ("correlation", "values"):
            on[name] = _TABLE if self.options[name] else _OFF
        if function is fill_lanes and self.options["close_fill"]:
            on["entries"] = _OFF
        named = {**_ARGUMENTS, **on}
        return tuple(named[name] for name in inspect.signature(function).parameters)

    def compile(self, part: str) -> None:
        """Compile a part of the job.

        Args:
            part: one of ``PARTS``.
        """
        if part == DECISIONS and self.built_in:
            _compile(decide_lanes, self.arguments(decide_lanes))
        elif part == SCORES:
            _compile(score_sets, _SCORES)
            _compile(raise_maxima, _MAXIMA)
        elif part == CLASSIFIERS:
            from optimizer.market.regimes import compile_classifier

            for name in self.classifiers:
                compile_classifier(name, joint=self.joint)

    def compile_others(self) -> None:
        """Compile what the simulation calls besides ``DECISIONS`` and takes longest."""
        for function in (fill_lanes, mark_lanes, sum_bars):
            _compile(function, self.arguments(function))


def _compile(function: Any, arguments: tuple[Any, ...]) -> None:
    function.compile(arguments)


class Ahead:
    """A process that compiles parts of a job, and the folder of what it has compiled.

    Args:
        job: what it compiles.
        folder: the folder of compiled kernels of this process.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self._folder = folder
        own = folder / f"{_PREFIX}{os.getpid()}"
        _remove_left(folder)
        self._source = own / folder.parent.name / folder.name
        self._source.mkdir(parents=True, mode=0o700)
        own.chmod(0o700)
        self._taken: dict[Path, tuple[object, object]] = {}
        for index in folder.glob("*/*.nbi"):
            _copy_kernel(index, self._source / index.relative_to(folder))
            self._note(index.relative_to(folder))
        with safe_children():
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "NUMBA_CACHE_DIR": str(own)},
            )
        self._stop = weakref.finalize(self, _stop, self._process, own)
        self._waiting = list(PARTS)
        assert self._process.stdin is not None
        # It may have ended: then everything is compiled here.
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            pipe.write(json.dumps([os.getpid(), asdict(job)]).encode())

    def wait(self, part: str) -> None:
        """Wait until a part is compiled, and take over what is done.

        Where the other process has failed, nothing of the part is there.

        Args:
            part: one of ``PARTS``.
        """
        output = self._process.stdout
        assert output is not None
        while part in self._waiting:
            line = output.readline().decode().strip()
            done = PARTS.index(line) + 1 if line in PARTS else len(PARTS)
            self._waiting = [one for one in self._waiting if PARTS.index(one) >= done]
        for index in self._source.glob("*/*.nbi"):
            name = index.relative_to(self._source)
            before = self._taken.get(name, (None, None))
            # What this process has compiled of the same function meanwhile stays.
            if _stamp(index) != before[0] and _stamp(self._folder / name) == before[1]:
                _copy_kernel(index, self._folder / name)
                self._note(name)

    def close(self) -> None:
        """End the process and remove its folder."""
        self._stop()

    def _note(self, name: Path) -> None:
        self._taken[name] = _stamp(self._source / name), _stamp(self._folder / name)


def start_ahead(space: Space, rules: Rules, bars: Bars) -> Ahead | None:
    """Start to compile parts of a study in another process.

    Args:
        space: the space of the study.
        rules: the rules of the study.
        bars: the bars of the study.

    Returns:
        The process; None where there is no other core, or the folder of kernels cannot be used.
    """
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if folder is None or cpu_count() < 2:
        return None
    try:
        return Ahead(Job.of(space, rules, bars), Path(folder))
    except OSError:
        return None


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Remove the folders of processes that were killed."""
    for path in folder.glob(f"{_PREFIX}*"):
        process = path.name.removeprefix(_PREFIX)
        if process.isdigit() and (
            int(process) == os.getpid() or not psutil.pid_exists(int(process))
        ):
            shutil.rmtree(path, ignore_errors=True)


def _stamp(path: Path) -> object:
    """What tells whether a file was written again; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _copy_kernel(index: Path, target: Path) -> None:
    """Copy the files of one kernel, its index last."""
    target.parent.mkdir(exist_ok=True)
    for path in (*index.parent.glob(f"{index.stem}.*.nbc"), index):
        part = target.parent / f"{path.name}.{os.getpid()}.part"
        shutil.copyfile(path, part)
        part.replace(target.parent / path.name)


def _main() -> None:
    parent, content = json.load(sys.stdin)
    job = Job(**{**content, "classifiers": tuple(content["classifiers"])})
    start_worker(parent)
    for part in PARTS:
        job.compile(part)
        print(part, flush=True)


if __name__ == "__main__":
    _main()
