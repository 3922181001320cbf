"""Recorded studies: read, compared, simulated again."""
