"""BMP inside other programs: a module for each of them, which imports that program; nothing here imports it."""
