# The public names in the order of a walk through the house, and where each comes from.
# __init__.py reads this file, and so do editors; `as` tells them that a name is handed on.

from slimlib.studies.get import get_study as get_study
from slimlib.config import AdapterConfig as AdapterConfig
from slimlib.config import Arm as Arm
from slimlib.config import ModelConfig as ModelConfig
from slimlib.config import Rule as Rule
from slimlib.config import Study as Study
from slimlib.methods import METHODS as METHODS
from slimlib.methods.plan import compile_plan as compile_plan
from slimlib.methods.shapes import count_parameters as count_parameters
from slimlib.methods.shapes import equal_cut as equal_cut
from slimlib.common.hardware import find_device as find_device
from slimlib.pipeline.preflight import preflight as preflight
from slimlib.pipeline.study import open_run as open_run
from slimlib.run import Run as Run
from slimlib.data.rows import load_rows as load_rows
from slimlib.data.rows import mix_datasets as mix_datasets
from slimlib.model.load import load_model as load_model
from slimlib.adapters.layers import attach as attach
from slimlib.adapters.layers import trainables_to_float32 as trainables_to_float32
from slimlib.adapters.saving import load_adapter as load_adapter
from slimlib.adapters.saving import save_adapter as save_adapter
from slimlib.train import finetune_arm as finetune_arm
from slimlib.merge.plain import merge_arm as merge_arm
from slimlib.evaluate.harness import evaluate_arm as evaluate_arm
from slimlib.evaluate.harness import evaluate_model as evaluate_model
from slimlib.evaluate.scoring import SlimLM as SlimLM
from slimlib.results import align_samples as align_samples
from slimlib.results import read_results as read_results
from slimlib.comparison.two_models import compare as compare
from slimlib.comparison.answers import flips as flips
from slimlib.comparison.answers import format_or_ability as format_or_ability
from slimlib.comparison.ladder import attribute as attribute
from slimlib.papers.slimming import audit as audit
from slimlib.papers.key_variables import judge_claims as judge_claims
from slimlib.papers.key_variables import read_grid as read_grid
