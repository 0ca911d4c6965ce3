"""A scenario at many points, under common chance, kept by content."""
