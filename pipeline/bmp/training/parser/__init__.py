"""Training of part parsers: the small semantic encoder first, then the parser on frozen levels."""
