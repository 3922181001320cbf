"""The engine: tiles evaluated by worker processes, on this machine or a cluster; coordinators."""
