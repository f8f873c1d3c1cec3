"""A model that scores each transaction: what it sees, how it is trained, how it runs."""
