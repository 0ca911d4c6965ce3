"""Meters: what a device draws, behind one narrow protocol; a vendor's library is met in one file each."""
