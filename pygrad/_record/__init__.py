"""Recorded functions: recording, building programs, and the transforms."""
