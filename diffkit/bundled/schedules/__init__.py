"""Bundled noise schedules."""
