"""Thresholds fitted to recorded runs with Optuna. The only room that knows it."""
