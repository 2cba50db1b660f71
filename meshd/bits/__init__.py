"""Packed bits: the layout contract (`layout`), the native kernels' typed face (`ops`), and the
same operations written out in plain numpy (`reference`).

Law: numpy and the extension module, never torch.
"""
