"""Bars: read, check, import and fetch them."""
