"""Names of a study's files, and what they say they are."""

from __future__ import annotations

MANIFEST = "study.json"
RESULTS = "results"
MOMENTS = "moments"
HOLDOUT = "holdout"
"""Folder of the out-of-sample metrics, sealed until `barsweep unseal`."""

UNSEALED = "unsealed.json"
"""Says that the holdout is open, and since when."""

SELECTION = "selection.json"
WALK_FORWARD = "walk_forward.parquet"
"""Stitched equity of a walk-forward."""

BENCHMARK = "benchmark.parquet"
"""Returns per bar of the benchmark."""

PLATEAU = "plateau.parquet"
"""Scores of all sets whose neighbours lie in other tiles too."""

FOLDS = "folds"
"""Folder of the searches of a walk-forward's windows."""

STRESS_PAGE = "stress.html"
"""The page that `barsweep stress` writes beside an export."""

DRIFT_PAGE = "drift.html"
"""The page that `barsweep drift` writes beside an export."""

CALIBRATION = "calibration.json"
"""Says what a calibration was started with."""

REOPTIMIZATION = "reoptimization.json"
"""Says whose sets a folder of reoptimisations has."""

JOURNAL = "optuna.journal"
SCRATCH = "shared"
SCHEMA_VERSION = 4

MISSING = "missing"

KIND = "barsweep study"
"""Says in a manifest whose file it is."""

BATCH_FOLDERS = (RESULTS, MOMENTS, HOLDOUT)
"""Folders that hold a file for each batch."""

OWN_FILES = (MANIFEST, JOURNAL, SELECTION, WALK_FORWARD, BENCHMARK, PLATEAU, UNSEALED)
"""Files of a study other than its batches."""
