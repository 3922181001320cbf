"""What a study sends to workers on other machines, and what they make of it.

Nothing depends on a shared file system. Bars, features, the study and the files of users' own
strategies go to the cluster once, as one object. Each worker process unpacks it once and keeps the
result under a key of the content. A worker with other versions of the software refuses the object,
because its results might differ in their last bits.
"""

from __future__ import annotations

import hashlib
import json
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from optimizer.compile_cache import exclusive, kernels_folder, source_key
from optimizer.engine.compile import compile_kernels
from optimizer.errors import StudyError
from optimizer.strategies.approvals import accept
from optimizer.strategies.user import UserStrategy
from optimizer.strategies.user_classifier import UserClassifier
from optimizer.strategies.user_source import StrategySource
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study, recorded_study
from optimizer.sweep.inputs import Inputs
from optimizer.versions import software_versions

_KEPT_CONTEXTS = 2
"""Studies that a worker process keeps unpacked."""


class Parcel(Protocol):
    """What a task is handed: the shipped object itself, or a way to fetch it."""

    @property
    def key(self) -> str:
        """The key of what was shipped."""

    def shipped(self) -> Shipped:
        """The shipped object."""


@dataclass(frozen=True, eq=False)
class Shipped:
    """Everything that a worker without a common file system needs, read-only.

    Attributes:
        key: hash of the content; equal keys give equal results.
        study: the study as ``Study.to_dict`` gives it, without passwords.
        inputs: the inputs of the study.
        sources: users' own strategies and classifiers, each with its source.
        software: versions of the software, and the key of the kernels' sources.
    """

    key: str
    study: Mapping[str, Any]
    inputs: Inputs
    sources: tuple[tuple[UserStrategy | UserClassifier, StrategySource], ...]
    software: Mapping[str, str]

    @classmethod
    def of(cls, study: Study, inputs: Inputs) -> Shipped:
        """Pack a study.

        Args:
            study: the study.
            inputs: its inputs.

        Returns:
            The object to send.

        Raises:
            UntrustedCodeError: the file of a user's strategy is not approved.
            StrategyError: the file of a user's strategy has changed since it was read.
        """
        for one in study.user_code:
            one.require_approval()
        software = _software()
        head = [study.to_dict(), inputs.bars.content_hash, inputs.first, inputs.split]
        text = json.dumps([*head, inputs.bounds, inputs.rules.files_hash, software], sort_keys=True)
        inputs = replace(inputs, rules=replace(inputs.rules, slower=None))  # no worker reads them
        return cls(
            key=hashlib.sha256(text.encode()).hexdigest(),
            study=study.to_dict(),
            inputs=inputs,
            sources=tuple((one, one.source()) for one in study.user_code),
            software=software,
        )

    def shipped(self) -> Shipped:
        """Itself, so that a task can treat it like any ``Parcel``.

        Returns:
            The same object.
        """
        return self


_contexts: dict[str, tuple[Inputs, Space]] = {}
_lock = threading.Lock()


def context_of(parcel: Parcel) -> tuple[Inputs, Space]:
    """In a worker, unpack what was shipped; once per process.

    Args:
        parcel: what the task was handed.

    Returns:
        The inputs and the space of the study.

    Raises:
        StudyError: this machine has other software than the study.
    """
    with _lock:
        if parcel.key not in _contexts:
            shipped = parcel.shipped()
            _refuse_other_software(shipped)
            for one, source in shipped.sources:
                accept([one.declaration.source_hash])  # which the parent was allowed to send
                one.provide(source)
            inputs = _read_only(shipped.inputs)
            space = build_space(recorded_study(shipped.study))
            with exclusive():  # all processes of a machine share one cache of compiled kernels
                compile_kernels(inputs, space)
            while len(_contexts) >= _KEPT_CONTEXTS:
                del _contexts[next(iter(_contexts))]
            _contexts[parcel.key] = inputs, space
        return _contexts[parcel.key]


def _software() -> dict[str, str]:
    return {**software_versions(), "kernels": source_key(kernels_folder())}


def _refuse_other_software(shipped: Shipped) -> None:
    ours = _software()
    for name, version in shipped.software.items():
        # The key of the kernels depends on the version of Python too, so it is compared last.
        if ours.get(name) != version:
            raise StudyError(
                f"the worker on {platform.node()} has {name} {ours.get(name)}, the study {version},"
                " and results might differ; install the same there"
            )


def _read_only(inputs: Inputs) -> Inputs:
    """The same inputs with arrays as the kernels were compiled for: aligned and not writable."""

    def fixed(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        array = np.require(value, requirements=["C", "A"])
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        return array

    def members(owner: Any) -> dict[str, Any]:
        return {one.name: fixed(getattr(owner, one.name)) for one in fields(owner) if one.init}

    bars = replace(inputs.bars, **members(inputs.bars))
    features = replace(inputs.features, **members(inputs.features))
    finer = inputs.rules.finer
    if finer is not None:
        finer = replace(finer, **members(finer))
    rules = replace(inputs.rules, **{**members(inputs.rules), "finer": finer})
    parts = {"bars": bars, "features": features, "rules": rules}
    return replace(inputs, **{**members(inputs), **parts})
