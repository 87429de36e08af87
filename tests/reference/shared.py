"""What the reference scripts have in common: the model from its GGUF file, LoRA as the demo uses it, memory."""

import argparse
import json
import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TQDM_DISABLE", "1")


def arguments(description):
    """The options of every script. Threads are set before torch starts any."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="sdpa")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paced", action="store_true", help="before each step that counts, print a line and wait for one")
    return parser


def wait_for_turn(options, step):
    """Where steps are paced and this one counts: says that it can begin, and waits for a line."""
    if options.paced and step >= options.warm:
        print(json.dumps({"event": "ready"}), flush=True)
        sys.stdin.readline()


def base_model(options):
    """The model in float32, its weights dequantised by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    return AutoModelForCausalLM.from_pretrained(
        options.model.parent,
        gguf_file=options.model.name,
        dtype=torch.float32,
        attn_implementation=options.attention,
    )


def tokenizer(options):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(options.model.parent, gguf_file=options.model.name)


def lora_config():
    """LoRA of rank 8 on all linear layers."""
    from peft import LoraConfig

    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def with_lora(model, init=None):
    """The model with a fresh adapter, or with the one in the folder `init`."""
    from peft import PeftModel, get_peft_model

    if init:
        return PeftModel.from_pretrained(model, init, is_trainable=True)
    return get_peft_model(model, lora_config())


def peak_rss_mib():
    """Largest resident set of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def reset_peak():
    """Forgets the peak so far; `peak_since_reset_mib` then tells the work's own (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_since_reset_mib():
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def versions():
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft")}


def tell_step(step, n_tokens, elapsed_secs):
    """An optimizer step is done, said as `attune train --json` says it."""
    print(json.dumps({"event": "step", "step": step, "n_tokens": n_tokens, "elapsed_secs": elapsed_secs}), flush=True)


def log(text):
    print(text, file=sys.stderr, flush=True)


def report(value):
    """The one JSON object on standard output."""
    print(json.dumps(value))
