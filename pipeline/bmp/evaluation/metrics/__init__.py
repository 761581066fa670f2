"""Numbers that compare people found with people labelled; they know no data set and no network."""
