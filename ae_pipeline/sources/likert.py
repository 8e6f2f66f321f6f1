"""Answers in words, in their order."""
