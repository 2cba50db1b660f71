"""meshd: idle office machines train Hadamard Binary Neural Networks together.

This package imports nothing, so that each process loads only what it needs.
"""

__version__ = "0.1.0"
