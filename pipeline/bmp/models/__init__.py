"""Networks and how they are built; they know no stage, no loop and no data set."""
