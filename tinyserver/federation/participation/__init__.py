"""Rooms that this server is not in yet, and what it lacks of those that it is in."""
