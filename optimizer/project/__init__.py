"""The files of `barsweep new`, copied as they are."""
