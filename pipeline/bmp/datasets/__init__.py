"""Data sets of people, one file each; ``bmp.registry.DATASETS`` imports them when one is asked for by name.

Nothing is imported here, so that a module with a command of its own (``python -m bmp.datasets.cihp``) runs once.
"""
