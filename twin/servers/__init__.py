"""Devices and the servers of their experts, event by event: the definition of what they do."""
