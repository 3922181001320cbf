"""What the file of a user's classifier declares: its parameters, and what its functions take."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.catalogue import LENGTHS, Parameter, column
from optimizer.strategies.declaration import is_name, known_columns, values_problem
from optimizer.strategies.user_file import StrategyFile
from optimizer.text import quoted

TAKEN = {"fit": ("returns",), "classify": ("returns", "model")}
"""The functions of the file, and the arguments that each must take."""

_LEAST = {"lookback": 2, "train_bars": 2, "refit_bars": 1}
"""The least value of the parameters that every classifier has."""

_RESERVED = ("name", "path", "market", "returns", "model")
"""Names that no parameter may have."""

_MOST_PARAMETERS = 100

_HASH = re.compile(r"[0-9a-f]{64}")

_Values = tuple[Any, Any, Any]


@dataclass(frozen=True)
class ClassifierDeclaration:
    """What a user's file declares.

    Attributes:
        name: the name of the classifier; the prefix of its columns.
        path: the path of the file, absolute.
        source_hash: SHA-256 of the file.
        declared: the parameters of the file: name, default, lowest, highest.
    """

    name: str
    path: str
    source_hash: str
    declared: tuple[tuple[str, float, float, float], ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters with defaults and bounds; those of ``LENGTHS`` first, declared or not."""
        own = {name: values for name, *values in self.declared}
        lengths = (
            _parameter(one.name, *own.pop(one.name)) if one.name in own else one for one in LENGTHS
        )
        return *lengths, *(_parameter(name, *values) for name, values in own.items())

    @property
    def content_hash(self) -> str:
        """SHA-256 of all but the path, by which equal classifiers are known."""
        content = json.dumps([self.name, self.source_hash, self.declared])
        return hashlib.sha256(content.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain values, from which ``classifier_from_dict`` restores it."""
        return {
            "name": self.name,
            "path": self.path,
            "source_hash": self.source_hash,
            "declared": {"parameters": [list(one) for one in self.declared]},
        }


def _parameter(name: str, default: Any, low: Any, high: Any) -> Parameter:
    kind = int if all(isinstance(v, int) for v in (default, low, high)) else float
    return Parameter(name, kind, default, low, high, "regime", "of the user's classifier")


def read_classifier_declaration(source: StrategyFile, name: str) -> ClassifierDeclaration:
    """What the file declares, checked.

    Args:
        source: the file, run already.
        name: the name of the classifier, which the study file gives.

    Raises:
        StrategyError: names the file, the line, the value and the fix.
    """
    table = getattr(source.module, "PARAMETERS", {})
    if not isinstance(table, dict):
        source.refuse(
            source.line_of_key("PARAMETERS"),
            'PARAMETERS: expected a dict such as {"lookback": (60, 2, 500)}: default, lowest, highest',
        )
    for key, values in table.items():
        problem = _parameter_problem(key, values)
        if problem:
            source.refuse(source.line_of_key("PARAMETERS", key), f"PARAMETERS: {problem}")
    if len(table) > _MOST_PARAMETERS:
        source.refuse(
            source.line_of_key("PARAMETERS"), f"PARAMETERS: at most {_MOST_PARAMETERS} parameters"
        )
    declared = tuple((key, *values) for key, values in table.items())
    found = ClassifierDeclaration(name, str(source.path), source.hash, declared)
    known = [one.name for one in found.parameters]
    for key, problem in _columns_taken(found):
        source.refuse(
            source.line_of_key("PARAMETERS", key),
            f"PARAMETERS: {key}: {problem}; give the parameter or the classifier another name",
        )
    taken = {argument for function in TAKEN for argument in _arguments(source, function, known)}
    for key in table:
        if key not in taken and key not in _LEAST:
            source.refuse(
                source.line_of_key("PARAMETERS", key),
                f"PARAMETERS: {key} is an argument of neither fit nor classify",
            )
    return found


def _columns_taken(found: ClassifierDeclaration) -> Iterable[tuple[str, str]]:
    """The parameters, those that every classifier has among them, whose column is another's."""
    for one in found.parameters:
        if column(found.name, one.name) in known_columns():
            yield one.name, f"the column {column(found.name, one.name)} is built in"


def _arguments(source: StrategyFile, name: str, known: Sequence[str]) -> Iterable[str]:
    """The arguments of a function of the file, checked."""
    needed = TAKEN[name]
    form = f"{name}({', '.join((*needed, 'parameters...'))})"
    if source.function(name) is None:
        source.refuse(source.line_of_key(name), f"no function {form} is defined here")
    line, arguments = source.functions[name].lineno, source.arguments(name)
    for argument in arguments:
        if argument not in (*needed, *known):
            source.refuse(
                line,
                f"{name}: unknown argument {argument}; valid: {', '.join((*needed, *known))};"
                " declare it in PARAMETERS",
            )
    for argument in needed:
        if argument not in arguments:
            source.refuse(line, f"{name}: does not take {argument}; expected {form}")
    return arguments


def _parameter_problem(name: object, values: object) -> str:
    """What is wrong with a parameter; empty if nothing is."""
    if not is_name(name):
        return f"got {name!r}; use only small letters, digits and _, and no word of Python"
    if name in _RESERVED:
        return f"{name} already has a meaning; give another name"
    problem = values_problem(str(name), values)
    if problem:
        return problem
    assert isinstance(values, tuple)
    least = _LEAST.get(str(name))
    if least is not None and (values[1] < least or not all(isinstance(one, int) for one in values)):
        return f"{name}: got {values!r}; expected whole numbers of bars from {least}"
    return ""


def classifier_from_dict(content: Mapping[str, Any]) -> ClassifierDeclaration:
    """Restore a declaration from data, which anyone may have written. Runs no code.

    Args:
        content: what ``ClassifierDeclaration.to_dict`` returned.

    Returns:
        The declaration, checked.

    Raises:
        ValueError: ``to_dict`` cannot have returned it; says in one line what is wrong.
    """
    name, path, source_hash = (content.get(key) for key in ("name", "path", "source_hash"))
    declared = content.get("declared")
    rows = declared.get("parameters") if isinstance(declared, Mapping) else None
    for what, value, holds in (
        ("name", name, is_name(name)),
        ("path", path, isinstance(path, str) and path.isprintable() and path.strip() != ""),
        ("source_hash", source_hash, isinstance(source_hash, str) and _HASH.fullmatch(source_hash)),
        ("parameters", rows, isinstance(rows, (list, tuple)) and len(rows) <= _MOST_PARAMETERS),
    ):
        if not holds:
            raise ValueError(f"{what}: got {quoted(value)}, which no classifier file declares")
    assert isinstance(rows, (list, tuple))
    found: dict[str, _Values] = {}
    for row in rows:
        key, *values = row if isinstance(row, (list, tuple)) and row else (None,)
        if key in found or _parameter_problem(key, tuple(values)):
            raise ValueError(f"parameter: got {quoted(row)}, which no classifier file declares")
        found[str(key)] = (values[0], values[1], values[2])
    declaration = ClassifierDeclaration(
        str(name), str(path), str(source_hash), tuple((key, *one) for key, one in found.items())
    )
    for key, problem in _columns_taken(declaration):
        raise ValueError(f"parameter {key}: {problem}, which no classifier file declares")
    return declaration
