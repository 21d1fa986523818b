"""The command line: a file for each subcommand of ``python -m mannkern``."""
