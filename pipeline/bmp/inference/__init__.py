"""Runs the loop over collections of pictures."""
