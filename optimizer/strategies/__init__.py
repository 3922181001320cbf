"""Strategies: built in, and the user's own."""
