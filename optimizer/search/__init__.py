"""The search: Optuna asks, workers evaluate, the study folder keeps."""
