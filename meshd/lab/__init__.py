"""A laboratory of the project's own: several hosts on one switch, within one Linux machine.

Root and iproute2 are all that it needs. `deploy/lab/lab` is its command.
"""
