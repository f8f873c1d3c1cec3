"""How the native modules were built."""
from streamdsl._native.includes.checked cimport CHECKED_BUILD

#: Whether this is the checked build.
CHECKED = CHECKED_BUILD != 0
