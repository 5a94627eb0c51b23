"""Stock HFLM against SlimLM: one process, one loaded model, alternating, on real rows.

    python tests/benchmarks/scoring.py --model micro:base --tasks hellaswag gsm8k gsm8k-fixed mmlu
    python tests/benchmarks/scoring.py --shape llama-3.2-1b --layers 4 --limit 32 --threads 2
    python tests/benchmarks/scoring.py --shape tinyllama-1.1b --device cuda --limit 1000 --markdown

Stock HFLM gets its best batch size: each of --batch-sizes is tried on a part of the requests, and
the fastest is taken. Then both sides answer all requests, in turn, --repeats times, each time with
a new LM object, whose making is timed too. Rates are of the medians. Tokens are the requests' own
(prompt and ending, or prompt and generated text, without padding), the same for both sides.

--shape makes a random model of a real shape with the embedded tokenizer. A random model hardly ever
ends a text, so that all rows run to --max-gen-toks. --stop adds stop strings: "wor" is in 8 of the
1,024 tokens and ends the rows after 8 to 256, as different in length as GSM8K's own answers.
A text is more tokens for the embedded tokenizer than for Llama's own: five shots of GSM8K and the
question are up to 2,532, hence --max-length 4096.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meter import Memory, device_name, flops, product_rate
from outcome import Measure, compare, details, differences, number, row, table
from workload import BENCHMARKS, Workload, load_workload

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "helpers"))
os.environ.setdefault("TQDM_DISABLE", "1")  # read when lm-eval imports it

from llama_shapes import SHAPES, embedded_tokenizer, random_llama  # noqa: E402

Make = Callable[[], Any]  # a new LM object


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="folder, hub id or micro:base")
    model.add_argument("--shape", choices=SHAPES, help="random weights of a real shape")
    add = parser.add_argument
    add("--layers", type=int, help="cut the shape to its first layers")
    add("--tasks", nargs="+", choices=BENCHMARKS, default=["hellaswag", "gsm8k", "mmlu"])
    add("--data", help='folder of the rows, or "hub"; default SLIMLIB_DATA, then ../shared/data')
    add("--limit", type=int, default=100, help="documents of each of lm-eval's tasks")
    add("--device", choices=("cpu", "cuda"), help="default: the GPU if there is one")
    add(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        help="default: float16 on a GPU, float32 on a CPU",
    )
    add("--threads", type=int, help="torch's")
    add("--max-length", type=int, default=4096, help="tokens")
    add("--max-gen-toks", type=int, help="default lm-eval's 256")
    add("--stop", nargs="+", default=[], help="stop strings beside the task's own")
    add("--batch-sizes", type=_numbers, default=[1, 4, 8, 16, 32], help="stock's, as 1,4,8")
    add("--sweep-limit", type=int, default=64, help="rows that each batch size is tried on")
    add("--repeats", type=int, default=3)
    add("--token-budget", type=int, help="SlimLM's")
    add("--max-rows", type=int, help="SlimLM's")
    add("--json", type=Path, help="file for all that was measured")
    add("--markdown", action="store_true", help="print the table as the README has it")
    args = parser.parse_args()
    if args.layers and not args.shape:
        parser.error("--layers cuts a --shape, not a --model")
    return args


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Choose what was left open: device, dtype and the folder of the rows."""
    from slimlib.common.hardware import find_device

    args.device = args.device or find_device().kind
    args.dtype = args.dtype or ("float16" if args.device == "cuda" else "float32")
    shared = TESTS.parents[1] / "shared" / "data"
    folder = args.data or os.environ.get("SLIMLIB_DATA") or (shared if shared.is_dir() else "hub")
    args.data = None if folder == "hub" else Path(folder)
    return args


def load_model(args: argparse.Namespace) -> tuple[str, Any, Any]:
    """The model's name for the table, the model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from slimlib.common.hardware import resolve_dtype
    from slimlib.model.load import resolve_name

    dtype = resolve_dtype(args.dtype)
    if args.shape:
        return *random_shape(args.shape, args.layers, dtype, args.device), embedded_tokenizer()
    path = resolve_name(args.model)
    name = Path(path).name if args.model != "micro:base" and Path(path).is_dir() else args.model
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    return name, model.to(args.device), AutoTokenizer.from_pretrained(path)


def random_shape(shape: str, layers: int | None, dtype: Any, device: str) -> tuple[str, Any]:
    """A random model that generates only ids which the embedded tokenizer has a text for."""
    import torch

    tokenizer = embedded_tokenizer()
    config = SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {})
    model = random_llama(config, tokenizer, dtype).eval()
    with torch.no_grad():  # their logits are 0, and of the others some are above
        model.get_output_embeddings().weight[len(tokenizer) :] = 0
    name = f"{shape} (random)" if layers is None else f"{shape} (random, {layers} layers)"
    return name, model.to(device)


# -------------------------------------------------------------------------------------- measuring


def measure(make: Make, workload: Workload, device: str) -> Measure:
    """Answer all requests once with a new LM object, which is let go: it may hold buffers."""
    import torch

    memory = Memory(device)
    begin = time.perf_counter()
    lm = make()
    answers = workload.ask(lm)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    return Measure(answers, seconds, memory.peak_mb(), own_words(lm))


def own_words(lm: Any) -> dict[str, Any]:
    """What SlimLM says of itself: why it left all to HFLM, or how much it computed."""
    if not hasattr(lm, "work"):  # stock
        return {}
    if lm.stock_reason:
        return {"stock_reason": lm.stock_reason}
    tokens, positions = lm.work.tokens, lm.work.positions
    done = flops(lm.model, tokens, positions)
    return {"stock_reason": None, "tokens": tokens, "positions": positions, "flops": done}


def sweep(make: Callable[[int], Make], part: Workload, sizes: list[int], device: str) -> dict:
    """Stock's rate at each batch size (None: out of memory), and how far its own answers differ."""
    import torch

    rates: dict[int, float | None] = {}
    answers = [measure(make(sizes[0]), part, device).answers]  # the first run costs more
    for size in sizes:
        try:
            done = measure(make(size), part, device)
        except torch.OutOfMemoryError:
            rates[size] = None
        else:
            rates[size] = len(part.requests) / done.seconds
            answers.append(done.answers)
        print(f"  stock, batch {size}: {number(rates[size])} requests/s", flush=True)
    return {
        "sweep": rates,
        "sweep_requests": len(part.requests),
        "stock_batch": max(rates, key=lambda size: rates[size] or 0),
        "between_batch_sizes": differences(part, *answers),
    }


def run_task(
    name: str, args: argparse.Namespace, stock: Callable[[int], Make], slim: Callable[[int], Make]
) -> dict[str, Any]:
    """Everything about one benchmark."""
    workload = load_workload(name, args.data, args.limit, args.max_gen_toks, args.stop)
    part = workload.part(args.sweep_limit, max(args.batch_sizes))
    print(f"\n{name}: {len(workload.requests)} requests", flush=True)
    found = {"task": name, **sweep(stock, part, args.batch_sizes, args.device)}
    best = found["stock_batch"]
    if best == max(args.batch_sizes):
        print("  the fastest batch is the largest tried: larger --batch-sizes may be faster")
    measure(slim(best), part, args.device)  # as stock has had its first run
    sides: dict[str, list[Measure]] = {"stock": [], "slim": []}
    for _ in range(args.repeats):
        for side, make in (("stock", stock(best)), ("slim", slim(best))):
            sides[side].append(measure(make, workload, args.device))
            print(f"  {side}: {sides[side][-1].seconds:.2f} s", flush=True)
    tokens, made = workload.tokens(stock(best)(), sides["stock"][0].answers)
    return found | {"generated_tokens": made} | compare(workload, **sides, tokens=tokens)


# ----------------------------------------------------------------------------------------- output


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The command line without what is a path of this machine."""
    paths = ("model", "data", "json")
    found = {key: value for key, value in vars(args).items() if key not in paths}
    return found | {"rows": "hub" if args.data is None else "local"}


def main() -> None:
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    from slimlib.common.hardware import versions
    from slimlib.scoring import SlimLM

    args = complete(arguments())
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of a model that is loaded
    transformers.logging.set_verbosity_error()
    if args.threads:
        torch.set_num_threads(args.threads)
    name, model, tokenizer = load_model(args)
    common = {"pretrained": model, "tokenizer": tokenizer, "max_length": args.max_length}
    own = {"token_budget": args.token_budget, "max_rows": args.max_rows}
    head = [name, device_name(args.device), args.dtype]
    product = product_rate(model)
    threads = f"{torch.get_num_threads()} threads"
    print(*head, threads, f"one large product: {product / 1e9:.0f} GFLOP/s", sep=", ")
    results = [
        run_task(
            task,
            args,
            lambda size: lambda: HFLM(**common, batch_size=size),
            lambda size: lambda: SlimLM(**common, **own, batch_size=size),
        )
        for task in args.tasks
    ]
    rows = [row(head, found) for found in results]
    print("", *map(details, results), table(rows, args.markdown), sep="\n\n")
    if args.json:
        about = dict(zip(("model", "device", "dtype"), head, strict=True))
        about |= {"threads": torch.get_num_threads(), "versions": versions()}
        about |= {"settings": settings(args), "product_flops_per_second": product}
        about |= {"results": results}
        args.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
