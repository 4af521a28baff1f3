"""Localhost in, analytics out, nothing lost."""

__version__ = "0.1.0"
