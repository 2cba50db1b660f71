"""Training: data order, the optimizer on latents, the exchanges, checkpoints; no sockets."""
