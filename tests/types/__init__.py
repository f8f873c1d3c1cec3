"""Types of columns: what goes in comes out, and what is computed is exact."""
