"""From the name of a checkpoint to its file, and from the file to the tensors of a network."""
