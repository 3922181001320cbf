"""The set that is traded, on bars that its study did not have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.errors import BarsweepError, ExportError
from optimizer.review.rerun import Terms, rerun_set
from optimizer.store.export import load_export, plain_values, without_none
from optimizer.text import list_text
from optimizer.types import Bars

_FIX = "move the file away, and the next set is chosen without it"


@dataclass(frozen=True, eq=False)
class TradedSet:
    """The set that is traded.

    Attributes:
        file: its export.
        digest: SHA-256 of the file.
        content: what the file holds, see ``load_export``.
    """

    file: Path
    digest: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path, study: str) -> TradedSet:
        """Read the export of a set.

        Args:
            file: a JSON or TOML export.
            study: name of the study that it must be of.

        Returns:
            The set.

        Raises:
            ExportError: the file cannot be used, has several sets, or one of another study.
        """
        content = load_export(file)
        if len(content["sets"]) != 1:
            raise ExportError(
                f"{file}: sets: has {len(content['sets'])}; expected the one that is traded"
            )
        if content["study"]["name"] != study:
            raise ExportError(
                f"{file}: a set of the study {content['study']['name']}, not of {study}; {_FIX}"
            )
        return cls(file, hashlib.sha256(file.read_bytes()).hexdigest(), content)

    @property
    def document(self) -> dict[str, Any]:
        """The set, see ``set_document``."""
        found: dict[str, Any] = self.content["sets"][0]
        return found

    def on(self, terms: Terms, bars: Bars) -> dict[str, Any]:
        """Its metrics in-sample on other bars of its study.

        Args:
            terms: the terms of the study there.
            bars: the bars.

        Returns:
            The metrics by name; None where undefined.

        Raises:
            ExportError: the study trades otherwise now, or has no such set any more.
        """
        own = Terms.of_export(self.content, self.file.resolve().parent)
        changed = [
            f"[{name}]" if name != "returns" else "[search] returns"
            for name in ("costs", "account", "instruments", "risk", "returns")
            if without_none(getattr(own, name)) != without_none(getattr(terms, name))
        ]
        if changed:
            raise ExportError(
                f"{self.file}: the study has another {list_text(changed)} than this set trades by; {_FIX}"
            )
        codes = {**self.content.get("strategies", {}), **self.content.get("classifiers", {})}
        recorded = {**terms.own_strategies, **terms.own_classifiers}
        for name, one in codes.items():
            if name in recorded and recorded[name]["source_hash"] != one["hash"]:
                raise ExportError(
                    f"{self.file}: {name}: its file has changed since the set was chosen; {_FIX}"
                )
        try:
            result = rerun_set(self.document, terms, bars, sealed=True).result
        except (BarsweepError, KeyError) as error:
            raise ExportError(
                f"{self.file}: no set of this study on these bars: {error}; {_FIX}"
            ) from None
        return {name: plain_values(value) for name, value in result.in_sample.items()}
