"""Loading a model, by either backend, and what quantisation makes of it."""
