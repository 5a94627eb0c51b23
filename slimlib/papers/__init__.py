"""The two papers: what they print, and what the records say of it."""
