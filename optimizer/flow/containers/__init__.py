"""The stateful parts of the event flow. None imports another; the flow passes between them."""
