"""Several tinyservers between which the network fails while people talk and change the room."""
