"""`meshd bench ring`: meshd's exchanges beside Gloo's, each member a process in its own host."""
