"""Strategies, classifiers and the risk manager: stateless and thin over the kernels.

All state comes in as arguments, and nothing is changed in place. The event flow calls the kernels of
the sweep, one symbol at a time.
"""
