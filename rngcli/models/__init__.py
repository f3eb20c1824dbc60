"""The shipped bundles: what a bundle is on disk, and where those that ship are found."""
