"""`python -m avel` is the command `avel`."""

from avel.cli import main

main()
