"""lm-evaluation-harness on an arm, and on models of one's own."""
