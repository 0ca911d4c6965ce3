"""The world in SimPy: users, gateway and servers, and the tables that a run leaves behind."""
