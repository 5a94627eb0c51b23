"""Where the tests find what lies beside them."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CHECKOUT = TESTS.parent
RECORDS = CHECKOUT / "figures" / "records"
LM_EVAL = TESTS / "data" / "lm_eval"  # outputs of lm-eval, 0.3 to 0.4.13 (made by its make.py)
SLIMLIB_0_1 = TESTS / "data" / "slimlib_0.1"  # records of the first slimlib: run folders, a grid
