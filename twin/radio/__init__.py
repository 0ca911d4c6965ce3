"""The radio between users and access points: signals, handovers, and how a cell's band is shared."""
