"""Process 1, the control plane: asyncio, sockets, files and clock around the pure node.

It never loads torch or numpy; what needs them runs in the worker's process.
"""
