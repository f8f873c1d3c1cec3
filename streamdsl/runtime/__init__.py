"""Control plane: turns a physical plan into tasks, runs them, and takes them through checkpoints."""
