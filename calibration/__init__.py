"""What an expert costs: recordings of real devices, cost models fitted to them, and profiles."""
