"""lm-evaluation-harness on a model, and the evaluator SlimLM."""
