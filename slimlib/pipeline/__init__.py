"""Whole studies: one function each for a study, a sweep, the checks before it."""
