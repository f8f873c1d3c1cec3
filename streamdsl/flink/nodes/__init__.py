"""Translations of the kinds of nodes, a file each; those that need no state stand together."""
