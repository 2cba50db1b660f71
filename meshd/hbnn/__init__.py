"""Hadamard Binary Neural Networks in torch: binarization, layers, the seed's evaluator, export.

Nothing here knows a network or a ring. The package imports nothing by itself: take what is needed
from `meshd.hbnn.binarize`, `.linear`, `.evaluator`, `.networks` and `.export`.
"""
