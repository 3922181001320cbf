"""What is needed to ship barsweep and to run it elsewhere."""
