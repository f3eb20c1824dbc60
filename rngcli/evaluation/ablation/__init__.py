"""The method's own choices, each against its alternatives: the paper's ablations in kind, small enough for an hour."""
