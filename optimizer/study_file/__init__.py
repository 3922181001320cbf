"""The study file: its tables, its checks, and the space that it spans."""
