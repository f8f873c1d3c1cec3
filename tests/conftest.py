"""What holds for all tests."""

from hypothesis import settings

# How long an example takes depends on who else uses the machine: it is no property of the code.
settings.register_profile("streamdsl", deadline=None)
settings.load_profile("streamdsl")
