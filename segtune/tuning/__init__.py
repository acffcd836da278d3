"""The only folder that imports ray or optuna."""
