"""How a bundle is made: one trainer, and a stage for each network."""
