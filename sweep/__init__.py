"""Sweeps of intermediate-task transfer chains: one study file, one command, one budget, one report."""

__version__ = "0.1.0"
