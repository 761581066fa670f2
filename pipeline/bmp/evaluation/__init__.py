"""Measures people against labels: numbers, and beside them those of the literature; knows no network."""
