"""tinyserver next to a real Synapse and next to other tinyservers: what users of both sides see of each other."""
