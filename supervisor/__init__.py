"""The public surface of the training supervisor."""
