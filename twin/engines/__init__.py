"""The two engines that play a world: `simpy`, every iteration an event, and `compiled`."""
