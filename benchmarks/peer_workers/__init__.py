"""One worker a peer, each run by the interpreter of the peer's environment."""
