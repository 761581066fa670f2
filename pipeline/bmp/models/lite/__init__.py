"""What the lite stages share: the LiteRT interpreter, regions of an image, and the landmark network."""
