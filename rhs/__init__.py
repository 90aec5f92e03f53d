"""Distributed deep metric learning, orchestrated as workflows."""

__version__ = "0.1.0"
