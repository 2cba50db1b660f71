"""Data sets on a disk or from the net: every format becomes one `Dataset`.

The package imports nothing by itself: take what is needed from `meshd.data.load`, `.dataset`,
`.errors`, `.augment`, `.summary` and `.download`. NumPy is all that is loaded; Pillow where a
folder of images is read.
"""
