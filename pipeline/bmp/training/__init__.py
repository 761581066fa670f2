"""Training of detectors, pose estimators and segmenters; ``python -m bmp.training CONFIG`` runs it."""
