"""The event flow: one bar at a time through containers, with a trace of every decision."""
