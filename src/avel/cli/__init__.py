"""The command line: one verb a file, whose function of the file's own name is the verb."""

from __future__ import annotations


def main() -> None:
    """The entry point of the command ``avel``."""
    import sys

    from avel.cli.main import main as run

    sys.exit(run())
