"""Training: modules, losses, fit and its checkpoints."""
