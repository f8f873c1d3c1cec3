"""Nexmark: an auction house as a stream, and the queries that stream processors are compared by."""
