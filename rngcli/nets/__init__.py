"""The networks: tensors in, tensors out, a frozen spec above each.

role in a bundle     in the shipped model     in its place, as the paper has it
reconstruct, r(x)    nafnet (nafnet.py)
generate, g          fusion (fusion.py)       unet (unet.py)
control, s(x)        bands (bands.py)         controller (controller.py)
"""
