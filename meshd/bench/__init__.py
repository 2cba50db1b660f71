"""Measurements behind `meshd bench`: our kernels beside those that others would use, and beside
what this processor can do at best.

Law: imports bits, hbnn, numpy, torch, and matplotlib where a plot is asked for; imported by the
command line only, when it is called. Nothing here decides anything: it measures and says.
"""
