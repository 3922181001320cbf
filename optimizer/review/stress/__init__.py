"""One set under worse conditions: costs, delay, noise, fewer trades, symbols and years, more money."""
