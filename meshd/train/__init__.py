"""Training: order of samples, the optimizer on latents, the exchanges, checkpoints; no sockets."""
