"""The analytics database of the event flow."""
