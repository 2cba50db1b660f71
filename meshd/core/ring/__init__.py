"""The elastic ring: who owns what, and what happens when members come and go."""
