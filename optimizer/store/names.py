"""Names of a study's files, and what they say they are."""

from __future__ import annotations

MANIFEST = "study.json"
RESULTS = "results"
MOMENTS = "moments"
SELECTION = "selection.json"
WALK_FORWARD = "walk_forward.parquet"
"""Stitched equity of a walk-forward."""

BENCHMARK = "benchmark.parquet"
"""Returns per bar of the benchmark."""

FOLDS = "folds"
"""Folder of the searches of a walk-forward's windows."""

CALIBRATION = "calibration.json"
"""Says what a calibration was started with."""

JOURNAL = "optuna.journal"
SCRATCH = "shared"
SCHEMA_VERSION = 2

MISSING = "missing"

KIND = "barsweep study"
"""Says in a manifest whose file it is."""

OWN_FILES = (MANIFEST, JOURNAL, SELECTION, WALK_FORWARD, BENCHMARK)
"""Files of a study other than its batches."""
