"""Readers of foreign measurement files: one file per format, each the owner of its foreign units."""
