"""LoRA training steps on one GPU: attune beside transformers and PEFT, in turns. For a machine with a GPU and no network.

    python bench_gpu.py --attune target/release/attune --devices vulkan,webgpu --shape smollm2 --batch-size 8 --length 1024

Models have random weights, so only the shape counts. Prints one JSON object a measurement, and ratios at the end.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SHAPES = {
    "smollm2": dict(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, rope_theta=100000.0,
    ),
    "qwen-0.5b": dict(
        vocab_size=49152, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True,
    ),
}  # fmt: skip


def make(shape, folder):
    """A Llama of random weights, with the fixtures' tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPES[shape])).save_pretrained(folder)
    fixtures = Path(__file__).parent.parent / "fixtures/tokenizer"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(fixtures / name, folder)
    return folder


def reference(folder, options, dtype, compiled):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation="sdpa").cuda()
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    forward = torch.compile(model) if compiled else model
    seconds, losses = [], []
    for _ in range(options.warm + options.steps):
        ids = torch.randint(0, 1000, (options.batch_size, options.length), device="cuda")
        began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bf16"):
            logits = forward(ids).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - began)
    n_tokens = options.batch_size * options.length
    return {
        "tokens_per_sec": [n_tokens / s for s in seconds[options.warm :]],
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20,
        "loss": losses,
    }


def used_mib():
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, capture_output=True, text=True).stdout.split()[0])


def ours(folder, options, device, more):
    command = [options.attune, "bench-step", "--model", folder, "--device", device, "--json"]
    command += ["--batch", options.batch_size, "--seq", options.length, "--warmup", options.warm, "--steps", options.steps]
    began, before, peak = time.perf_counter(), used_mib(), 0.0
    with subprocess.Popen([*map(str, command), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        while True:
            try:
                out, err = run.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, used_mib() - before)
                if time.perf_counter() - began > options.patience:
                    run.kill()
    if run.returncode != 0:
        return {"failed": err[-1500:], "secs": time.perf_counter() - began}
    found = json.loads(out.strip().splitlines()[-1])
    keep = {key: found[key] for key in ("tokens_per_sec", "loss")}
    return {**keep, "peak_gpu_mib": peak, "secs": time.perf_counter() - began}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--attune", type=Path, required=True)
    parser.add_argument("--devices", default="vulkan", help="attune's, with commas between")
    parser.add_argument("--more", action="append", default=[], help="further arguments of attune, once a variant")
    parser.add_argument("--references", default="bf16,f32,tf32,bf16-compiled")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench-gpu"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--patience", type=float, default=120.0, help="seconds after which attune is ended")
    options = parser.parse_args()
    folder = options.folder / options.shape
    if not (folder / "config.json").exists():
        make(options.shape, folder)
    rates = {}
    for _ in range(options.rounds):
        for device in filter(None, options.devices.split(",")):
            for more in options.more or [""]:
                note(f"attune {device} {more}".strip(), ours(folder, options, device, more.split()), rates)
        for name in filter(None, options.references.split(",")):
            dtype, _, compiled = name.partition("-")
            note(f"PEFT {name}", reference(folder, options, dtype, bool(compiled)), rates)
    print(json.dumps({name: round(statistics.median(all_of), 1) for name, all_of in rates.items()}))


def note(name, found, rates):
    rates.setdefault(name, []).extend(found.get("tokens_per_sec", [float("nan")]))
    print(json.dumps({"side": name, **found}), flush=True)
    print(name, file=sys.stderr)


if __name__ == "__main__":
    main()
