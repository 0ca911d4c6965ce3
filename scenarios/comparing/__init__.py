"""Two runs of one scenario beside each other: how far they are apart, how sure that is, and whether it is too far."""
