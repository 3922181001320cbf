"""From a result to orders: bars that go on, the orders of the next open, and an account that trades."""
