"""Tiles of any method on one device: where they lie, when they run, how they become a picture again."""
