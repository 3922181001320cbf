"""Worker processes: on this machine, on a cluster, and several coordinators."""
