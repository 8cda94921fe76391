"""Training, how weights change: the loop, the trainer, fits, budgets, logs, signals, processes."""
