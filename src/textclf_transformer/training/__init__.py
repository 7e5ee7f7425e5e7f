"""The loop and what it is handed: optimizer, schedule, checkpoints, logs, signals."""
