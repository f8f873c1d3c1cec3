"""A live page for a run: what its operators do, where it is held up, what its checkpoints are like. It reads, and changes nothing."""

from streamdsl.ui.server import UiServer, serve_ui

__all__ = ["UiServer", "serve_ui"]
