"""What a finished model is judged by: metrics and baselines."""
