"""What runs the loop over a collection of pictures."""
