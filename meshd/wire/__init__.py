"""Bytes <-> messages, pure: no sockets, no clock, no files. `proto/` is the contract it keeps."""
