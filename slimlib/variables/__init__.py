"""The study of the key variables: its grid, the sweep that runs it, its records, tables and claims.

`grid` has the experiments as data, `presets` the two studies, `sweep` runs every cell, `records`
keeps them, `tables`, `plots` and `claims` are made from the records alone.
"""

from __future__ import annotations
