"""Merging an adapter: into plain weights, inside a quantised format, in several precisions."""
