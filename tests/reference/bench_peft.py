"""Times LoRA training steps, or greedy generation, of SmolLM2 in transformers and PEFT. One process for each case.

    python bench_peft.py --model SmolLM2-135M-Instruct.Q4_1.gguf train --batch-size 8 --length 128
    python bench_peft.py --model SmolLM2-135M-Instruct.Q4_1.gguf generate --n-tokens 64
    python bench_peft.py --model SmolLM2-135M-Instruct.Q4_1.gguf first-step --train first.jsonl

A training step is forward, loss over all tokens but the first, backward, clipping and AdamW on rows of random tokens
without padding. `peak_rss_mib` is the whole process's, loading included; `work_peak_rss_mib` leaves the loading out,
whose dequantised copies are the larger part of short runs. `--compile` puts torch.compile before the steps; compiling
falls into the warm-up, in time and in memory.

`first-step` makes one step of the demo on all rows of the file and tells when it is done: whoever started the process
times it.
"""

import statistics
import time
from pathlib import Path

from shared import arguments, base_model, peak_rss_mib, peak_since_reset_mib, report, reset_peak, tell_step, tokenizer
from shared import versions, wait_for_turn, with_lora


def train(torch, options):
    model = with_lora(base_model(options)).train()
    reset_peak()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    vocab = model.config.vocab_size
    if options.compile:
        model = torch.compile(model)
    seconds, losses = [], []
    for step in range(options.warm + options.steps):
        if options.compile and step == options.warm:
            reset_peak()
        wait_for_turn(options, step)
        ids = torch.randint(0, vocab, (options.batch_size, options.length))
        began = time.perf_counter()
        logits = model(ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(float(loss.detach()), 4))
        seconds.append(time.perf_counter() - began)
    return options.batch_size * options.length, seconds[options.warm :], {"loss": losses}


def generate(torch, options):
    model = base_model(options).eval()
    reset_peak()
    ids = torch.randint(17, model.config.vocab_size, (1, options.prompt_length))
    seconds = []
    for step in range(options.warm + options.steps):
        wait_for_turn(options, step)
        began = time.perf_counter()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False,
            max_new_tokens=options.n_tokens, min_new_tokens=options.n_tokens, pad_token_id=0,
        )  # fmt: skip
        seconds.append(time.perf_counter() - began)
        assert out.shape[1] == options.prompt_length + options.n_tokens
    return options.n_tokens, seconds[options.warm :], {"prompt_length": options.prompt_length}


def first_step(torch, options):
    from peft_reviews import read, train as train_on_reviews

    rows = read(options.train)
    options.batch_size = len(rows)
    trained = train_on_reviews(torch, with_lora(base_model(options)), tokenizer(options), rows, options)
    tell_step(1, trained["n_tokens"], trained["train_secs"])


def main():
    parser = arguments(__doc__.split("\n")[0])
    cases = parser.add_subparsers(dest="case", required=True)
    case = cases.add_parser("train")
    case.add_argument("--batch-size", type=int, default=1)
    case.add_argument("--length", type=int, default=128)
    case.add_argument("--warm", type=int, default=1)
    case.add_argument("--steps", type=int, default=5)
    case.add_argument("--compile", action="store_true")
    case = cases.add_parser("generate")
    case.add_argument("--prompt-length", type=int, default=16)
    case.add_argument("--n-tokens", type=int, default=64)
    case.add_argument("--warm", type=int, default=1)
    case.add_argument("--steps", type=int, default=3)
    case = cases.add_parser("first-step")
    case.add_argument("--train", type=Path, required=True)
    case.add_argument("--max-length", type=int, default=128)
    case.add_argument("--learning-rate", type=float, default=2e-4)
    options = parser.parse_args()
    import torch

    if options.case == "first-step":
        return first_step(torch, options)
    n_tokens, seconds, more = (train if options.case == "train" else generate)(torch, options)
    rates = [n_tokens / s for s in seconds]
    report(
        {
            "case": options.case,
            **{key: getattr(options, key) for key in ("batch_size", "length", "n_tokens") if hasattr(options, key)},
            "threads": options.threads,
            "attention": options.attention,
            "tokens_per_sec": [round(rate, 2) for rate in rates],
            "median_tokens_per_sec": round(statistics.median(rates), 2),
            "work_peak_rss_mib": peak_since_reset_mib(),
            "peak_rss_mib": peak_rss_mib(),
            **more,
            "versions": versions(),
        }
    )


if __name__ == "__main__":
    main()
