"""How parts of one capability are put together, where the composition root would get too long."""
