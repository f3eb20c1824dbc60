"""How a bundle restores a tile: networks and a process behind one contract."""
