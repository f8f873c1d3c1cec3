"""Examples of streamdsl."""
