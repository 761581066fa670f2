"""What people use in a browser; it knows the pipeline through ``bmp.api`` and the segmenters' corrections."""
