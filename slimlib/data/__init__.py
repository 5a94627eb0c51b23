"""Rows, prompts, tasks and the embedded world."""
