"""Networks as declarative specs: one text for a job file, for Python and for a model file.

`layers` says what layers there are and which settings each takes, `presets` names whole networks,
`spec` reads the table, `graph` gives every layer its shapes and parameters. Pure: what computes a
network is `meshd.hbnn` (torch, to train) and `meshd.hbnn.runtime` (numpy, to use it).
"""
