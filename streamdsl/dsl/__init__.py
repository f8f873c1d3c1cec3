"""What the user types: topologies, streams, tables and their verbs."""
