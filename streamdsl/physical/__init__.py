"""How it runs: the physical plan and the way there."""
