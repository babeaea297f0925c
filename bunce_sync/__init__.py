"""Keeps Django and Bunce in step: exactly one Bunce segment for each local row."""

__version__ = "1.0.0rc1"
