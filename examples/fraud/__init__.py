"""Fraud detection on bank transactions: see README.md."""
