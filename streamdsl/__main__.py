"""``python -m streamdsl``: the same as ``streamdsl``."""

import sys

from streamdsl.cli import main

sys.exit(main())
