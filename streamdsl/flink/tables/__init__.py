"""Tables of sources and sinks, by connector."""
