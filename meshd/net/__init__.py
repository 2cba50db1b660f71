"""The only sockets: ZeroMQ control and bulk links, CURVE and ZAP, mDNS, the local socket.

Nothing is imported here, so that the command line loads `meshd.net.local` without ZeroMQ.
"""
