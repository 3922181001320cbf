"""The other way through the bars: one bar at a time, through containers."""
