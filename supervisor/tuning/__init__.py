"""Thresholds fitted to recorded runs with Optuna."""
