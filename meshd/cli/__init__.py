"""The command line: one file per command, and only the local daemon's socket to talk to.

Data goes to stdout, words to stderr; a command says in one line what is wrong and exits with the
code that `meshd.core.errors` documents. Of meshd these files import `meshd.net.local` alone.
"""
