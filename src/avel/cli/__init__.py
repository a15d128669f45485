"""The command line: one verb a file, a function of the file's name."""

from __future__ import annotations


def main() -> None:
    """The entry point of the command ``avel``."""
    import sys

    try:
        from avel.cli.main import main as run

        code = run()
    except KeyboardInterrupt:  # while the libraries are being imported
        code = 130
    sys.exit(code)
