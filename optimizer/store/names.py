"""Names of a study's files, and of the columns beside parameters and metrics."""

from __future__ import annotations

from optimizer.catalogue import METRICS

MANIFEST = "study.json"
RESULTS = "results"
MOMENTS = "moments"
SELECTION = "selection.json"
WALK_FORWARD = "walk_forward.parquet"
"""Stitched equity of a walk-forward."""

JOURNAL = "optuna.journal"
SCRATCH = "shared"
SCHEMA_VERSION = 1

MISSING = "missing"

OUT_OF_SAMPLE = tuple(f"oos_{name}" for name in METRICS)
COUNTS = ("n_trades", "oos_n_trades")


KIND = "barsweep study"
"""Says in a manifest whose file it is."""


OWN_FILES = (MANIFEST, JOURNAL, SELECTION, WALK_FORWARD)
"""Files of a study beside its batches."""
