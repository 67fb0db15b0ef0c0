"""Measurements: a server under load, and agents on suites of tasks."""
