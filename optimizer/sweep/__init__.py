"""One way through the bars: many parameter sets at once, in lanes."""
