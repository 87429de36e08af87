"""Loads what `attune export` wrote with transformers and PEFT, and compares logits with those attune computed.

    python check_export.py --export DIR --logits logits.safetensors [--base FOLDER | --base-gguf FILE]

`DIR` is a PEFT adapter (it holds adapter_config.json; then a base is needed) or a merged model folder.
`logits.safetensors` holds `input_ids` [rows, tokens] as integers and `logits` [rows, tokens, vocab] as float32, both from
attune, without padding. Prints one JSON object; the exit code is 1 if the largest difference is above --tolerance.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from shared import report, versions  # noqa: E402


def load(torch, options):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = {"dtype": torch.float32, "attn_implementation": "eager"}
    if not (options.export / "adapter_config.json").exists():
        return "merged", AutoModelForCausalLM.from_pretrained(options.export, **settings).eval()
    if options.base_gguf:
        settings["gguf_file"] = options.base_gguf.name
    base = AutoModelForCausalLM.from_pretrained(options.base or options.base_gguf.parent, **settings)
    return "adapter", PeftModel.from_pretrained(base, options.export).eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--logits", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="model folder under an adapter")
    parser.add_argument("--base-gguf", type=Path, help="GGUF file under an adapter")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    options = parser.parse_args()
    if (options.export / "adapter_config.json").exists() and not (options.base or options.base_gguf):
        parser.error("an adapter needs --base or --base-gguf")
    import torch
    from safetensors.torch import load_file

    theirs = load_file(options.logits)
    kind, model = load(torch, options)
    with torch.no_grad():
        ours = model(theirs["input_ids"].long()).logits
    if ours.shape != theirs["logits"].shape:
        sys.exit(f"logits: expected {tuple(ours.shape)}, the file holds {tuple(theirs['logits'].shape)}")
    apart = float((ours - theirs["logits"].float()).abs().max())
    same = float((ours.argmax(-1) == theirs["logits"].argmax(-1)).float().mean())
    report({"kind": kind, "max_abs_diff": apart, "same_argmax": same, "largest_logit": float(ours.abs().max()), "versions": versions()})
    sys.exit(apart > options.tolerance)


if __name__ == "__main__":
    main()
