"""What a topology means: frozen nodes, typed expressions, the plan they make and how it prints."""
