"""Adapters on a model: their layers, structure, attaching and saving."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it asks for another package
