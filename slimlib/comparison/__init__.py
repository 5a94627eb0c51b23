"""From results to verdicts: changes, comparisons, the ladder, answers."""
