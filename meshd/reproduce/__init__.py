"""`meshd reproduce`: what the seed claims, as experiments that anyone can run.

An experiment is a file with one `Experiment`: it measures, and draws from what it measured and
nothing else, so that a picture can be made again from its figures. `catalogue` lists them all.
The package imports nothing by itself.
"""
