"""Adapters on a model: their layers, structure, attaching and saving."""
