"""`avel version`: print the version."""

from __future__ import annotations


def version() -> None:
    """Print avel's version."""
    from avel._version import __version__

    print(__version__)
