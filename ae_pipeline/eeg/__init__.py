"""Signals of recordings: looked through, cleaned, cut into windows, described and named."""
