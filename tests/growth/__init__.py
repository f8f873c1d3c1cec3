"""The whole of the grown fraud example, with its servers, under kills."""
