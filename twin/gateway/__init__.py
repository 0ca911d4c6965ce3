"""The gateway: which experts a request asks, and what is done when they are slow or gone."""
