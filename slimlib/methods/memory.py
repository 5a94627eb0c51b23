"""The memory that a fine-tuning takes, from shapes alone: each part by one formula.

Bytes of tensors. Beside them a GPU holds the CUDA context, kernels' workspaces and what its
allocator has cut up; a CPU holds Python and its libraries. The formulas count what
transformers' Llama, PEFT, bitsandbytes and TRL's chunked loss keep (their sources, read at 5.17,
0.21, 0.50 and 1.14); the tests hold them against measured peaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slimlib.config import ATTENTION, MLP, AdapterConfig
from slimlib.methods.definitions import NF4_BITS
from slimlib.methods.plan import compile_plan
from slimlib.methods.shapes import Shape, base_parameters

GB = 2**30
FLOAT32 = 4  # bytes
CHUNK = 256  # tokens whose logits TRL makes at once (_CHUNKED_LM_HEAD_CHUNK_SIZE)
LOGITS_ALIVE = 4  # of a chunk: logits, their log softmax, its exp, the product of both

# What an optimiser keeps for each trained number: Adam two moments (Kingma and Ba 2015), Lion one
# (Chen et al. 2023), AdEMAMix three (Pagliardini et al. 2024), Adafactor sums over rows and columns
# alone (Shazeer and Stern 2018), which are next to nothing. In 8 bit a moment takes a byte, and a
# float32 for each 256 (Dettmers et al. 2022, arXiv 2110.02861).
MOMENTS = {
    **{"adamw": 2, "ademamix": 3, "lion": 1, "rmsprop": 1, "adagrad": 1},
    **{"sgd": 0, "adafactor": 0},
}
EIGHT_BIT = 1 + FLOAT32 / 256

LOSS, LAYER, STEP = "the loss", "a layer's backward pass", "the optimiser's step"


@dataclass(frozen=True)
class Setting:
    """What the memory depends on beside the shape.

    Example: `Setting(rows=4, tokens=256, compute=2)` is a pass of four rows in 16 bit.
    """

    rows: int  # of a pass
    tokens: int  # of its longest row
    compute: int = FLOAT32  # bytes of a number that is computed with
    rest: int = FLOAT32  # bytes of embeddings, norms and what runs between the layers
    four_bit: bool = False  # the linear modules' weights
    checkpointing: bool = False  # only the layers' inputs are kept, and each layer computed again
    optimizer: str = "adamw_torch"
    padding_free: bool = False  # rows behind one another, without padding
    foreach: bool = False  # the step of all weights at once, as on a GPU

    @property
    def in_pass(self) -> int:
        """Tokens of a pass, with padding."""
        return self.rows * self.tokens

    @property
    def mask(self) -> int:
        """Numbers of the attention's mask for each token; one row alone needs none."""
        row = self.in_pass if self.padding_free else self.tokens
        return row if self.rows > 1 else 0


@dataclass(frozen=True)
class Memory:
    """Bytes by part, at each moment of a step that may need most."""

    moments: Mapping[str, Mapping[str, float]]

    @property
    def moment(self) -> str:
        """When most is needed."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Mapping[str, float]:
        """Bytes by part at that moment."""
        return self.moments[self.moment]

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


def linear_parameters(shape: Shape) -> int:
    """Weights of the decoder's linear modules: layers x sum of d_in d_out."""
    return sum(d_in * d_out for d_in, d_out in shape.modules().values())


def weight_bytes(shape: Shape, setting: Setting) -> float:
    """The model: linear weights in 4.127 bits or `compute` bytes, all others in `rest` bytes.

    4 bits, a byte of scale for 64 weights and a float32 for 256 scales: QLoRA, arXiv 2305.14314,
    section 3.

    Example: Llama-3.2-1B in NF4, the rest in 16 bit: 973,078,528 x 4.127 / 8 + 262,735,872 x 2
    = 1.03e9 bytes.
    """
    linear = linear_parameters(shape)
    rest = (base_parameters(shape) - linear) * setting.rest
    return rest + linear * (NF4_BITS / 8 if setting.four_bit else setting.compute)


def optimizer_bytes(trained: int, optimizer: str) -> float:
    """State of an optimiser: moments x trained numbers x 4 bytes, or 1.016 in 8 bit.

    Example: AdamW on 11,272,192 numbers -> 90,177,536.
    """
    moments = MOMENTS[optimizer.removeprefix("paged_").partition("_")[0]]
    return trained * moments * (EIGHT_BIT if "8bit" in optimizer else FLOAT32)


def layer_bytes(shape: Shape, setting: Setting, adapter: AdapterConfig | None) -> float:
    """What one layer's forward pass keeps of a token for its backward pass.

    Both norms keep their input (2 d, in `rest` bytes). Attention keeps q and its output (2 d), k
    and v. Where a mask tells rows apart, k and v are widened to d each (transformers'
    `repeat_kv`), and the mask is kept as numbers. The gated MLP keeps its two inner values and
    SiLU's (3 m). An adapter keeps each input that its modules read (d for q, k, v together, d for
    gate and up, m for down; o reads what attention keeps) and its inner values. With dropout each
    module keeps an input of its own, and a byte for each number of it. Full fine-tuning keeps all
    inputs, and what each norm multiplies by its weight (2 d).

    Args:
        shape: the model's.
        setting: of the pass.
        adapter: None is full fine-tuning.

    Example: d 4, m 8, k and v of 2, one row, float32, LoRA of rank 1 on all seven modules:
    (2 4 + 2 4 + 2 2 + 3 8 + 4 + 4 + 8 + 7) x 4 = 268.
    """
    d, m = shape.hidden, shape.intermediate
    kept = 2 * d + 3 * m + (2 * d + setting.mask if setting.mask else 2 * shape.kv_out)
    norms = (2 if adapter else 4) * d * setting.rest
    plan = compile_plan(shape.modules(), adapter) if adapter else {}
    reads = {name.rpartition(".")[2] for name in plan or shape.modules()}
    kept += sum(entry.width for entry in plan.values()) / shape.layers
    if adapter and adapter.lora_dropout:
        dropped = sum(shape.linears()[name][0] for name in reads)
        return (kept + dropped) * setting.compute + dropped + norms
    for names, width in ((ATTENTION[:3], d), (MLP[:2], d), (MLP[2:], m)):
        kept += width if reads & {*names} else 0
    return kept * setting.compute + norms


def backward_bytes(shape: Shape, setting: Setting) -> float:
    """What a layer's backward pass makes beside what was kept: the MLP's gradients, one weight.

    At SiLU's product three gradients of the inner width m for each token, where down's input has
    been released: two. And in 4 bit the largest matrix as numbers again, d m.
    """
    weight = shape.hidden * shape.intermediate if setting.four_bit else 0
    return (2 * shape.intermediate * setting.in_pass + weight) * setting.compute


def loss_bytes(shape: Shape, setting: Setting) -> float:
    """The logits: 4 arrays of min(tokens, 256) x vocabulary in float32, and a cast output matrix.

    TRL makes the logits of 256 tokens at once, and again for their backward pass. Where the rest is
    stored in other bytes than are computed with, the output matrix is cast: vocabulary x d.

    Example: Llama-3.2-1B, 256 tokens: 4 x 256 x 128,256 x 4 = 525,336,576.
    """
    cast = shape.vocab_size * shape.hidden * setting.compute
    logits = LOGITS_ALIVE * min(setting.in_pass, CHUNK) * shape.vocab_size * FLOAT32
    return logits + (cast if setting.rest != setting.compute else 0)


def training_memory(
    shape: Shape, setting: Setting, adapter: AdapterConfig | None, trained: int
) -> Memory:
    """The bytes of a fine-tuning by part.

    Always there: the model's weights, the adapter's, a gradient for each trained number (all in
    float32, Micikevicius et al. 2018), the optimiser's state. Beside them one of three:

    - at the loss: what all layers keep, and the logits;
    - in a layer's backward pass: what all layers keep, that layer's own values where it is
      computed again (Chen et al. 2016, arXiv 1604.06174), its gradients;
    - in the optimiser's step on a GPU: one number more for each trained one (torch's `foreach`).

    Args:
        shape: the model's.
        setting: of the pass.
        adapter: None is full fine-tuning, where the model's weights are trained in float32.
        trained: numbers that are trained.
    """
    full = adapter is None
    always = {
        "weights": trained * FLOAT32 if full else weight_bytes(shape, setting),
        "adapter": 0 if full else trained * FLOAT32,
        "gradients": trained * FLOAT32,
        "optimiser": optimizer_bytes(trained, setting.optimizer),
    }
    tokens, width = setting.in_pass, shape.hidden * setting.rest
    layer = layer_bytes(shape, setting, adapter) * tokens
    kept = shape.layers * (width * tokens if setting.checkpointing else layer)
    kept += 3 * width * tokens  # the embeddings, the last norm's output, and that without padding
    if full and setting.compute != FLOAT32:  # autocast keeps a copy of each trained matrix
        kept += linear_parameters(shape) * setting.compute
    again = layer if setting.checkpointing else 0
    moments = {
        LOSS: {"activations": kept, "logits": loss_bytes(shape, setting)},
        LAYER: {"activations": kept + again + backward_bytes(shape, setting), "logits": 0},
        STEP: {"activations": trained * FLOAT32 * setting.foreach, "logits": 0},
    }
    return Memory({name: always | parts for name, parts in moments.items()})
