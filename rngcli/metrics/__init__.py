"""How good a picture is: (N, C, H, W) in, one number a picture (N,) out; the data range is always named."""
