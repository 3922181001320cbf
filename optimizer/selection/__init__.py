"""Honest selection: what the best result of many is worth."""
