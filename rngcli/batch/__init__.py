"""From disk to disk: which pictures, in what order, read and written by threads beside the device's own."""
