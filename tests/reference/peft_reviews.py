"""The demo's fine-tuning run in transformers and PEFT, to compare attune's figure with.

    python peft_reviews.py --model SmolLM2-135M-Instruct.Q4_1.gguf --train train.jsonl --test test.jsonl

Rows are {"prompt", "completion", "label"}. They are joined as TRL joins them: one text with the end token, the loss on
what follows the prompt. Rows are taken in file order, eight to a batch padded on the right, one epoch; AdamW without
weight decay, the learning rate falling linearly from its first step, gradients clipped to a norm of 1.

Accuracy: of the first tokens of the completions that occur, the one with the largest logit right after the prompt must
be the first token of the row's own completion. Prompts are not cut for it.
"""

import json
import time

from shared import arguments, base_model, log, peak_rss_mib, report, tokenizer, versions, with_lora


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def encode(tok, row, max_length):
    """Ids, and how many of them are context: the prompt's tokens up to where both tokenizations part."""
    prompt = tok(row["prompt"], add_special_tokens=False)["input_ids"]
    ids = tok(row["prompt"] + row["completion"] + tok.eos_token, add_special_tokens=False)["input_ids"]
    n_context = next((i for i, (a, b) in enumerate(zip(prompt, ids)) if a != b), min(len(prompt), len(ids)))
    return ids[:max_length], n_context


def padded(torch, rows, filler):
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def accuracy(torch, model, tok, rows, words, batch_size=16):
    """Share of rows whose own word has the largest logit among `words` (completion → first token)."""
    names, ids = list(words), torch.tensor(list(words.values()))
    prompts = [tok(row["prompt"], add_special_tokens=False)["input_ids"] for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    right, began = 0, time.perf_counter()
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            batch = padded(torch, [prompts[i] for i in part], tok.pad_token_id)
            mask = padded(torch, [[1] * len(prompts[i]) for i in part], 0)
            logits = model(batch, attention_mask=mask).logits
            last = logits[torch.arange(len(part)), mask.sum(1) - 1]
            right += sum(names[int(w)] == rows[i]["completion"] for w, i in zip(last[:, ids].argmax(1), part))
    return right / len(rows), time.perf_counter() - began


def train(torch, model, tok, rows, options):
    from transformers import get_scheduler

    encoded = [encode(tok, row, options.max_length) for row in rows]
    encoded = [(ids, n) for ids, n in encoded if len(ids) > n]
    n_steps = -(-len(encoded) // options.batch_size)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0)
    schedule = get_scheduler("linear", optimizer, 0, n_steps)
    losses, norms, n_tokens, began = [], [], 0, time.perf_counter()
    model.train()
    for step in range(n_steps):
        part = encoded[step * options.batch_size : (step + 1) * options.batch_size]
        ids = padded(torch, [ids for ids, _ in part], tok.pad_token_id)
        mask = padded(torch, [[1] * len(ids) for ids, _ in part], 0)
        labels = padded(torch, [[-100] * n + ids[n:] for ids, n in part], -100)
        logits = model(ids, attention_mask=mask).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, 1.0)))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        n_tokens += int(mask.sum())
        if step % 10 == 0:
            log(f"step {step}/{n_steps} loss {losses[-1]:.4f} {n_tokens / (time.perf_counter() - began):.1f} tokens/s")
    seconds = time.perf_counter() - began
    return {
        "n_steps": n_steps,
        "n_rows": len(encoded),
        "n_tokens": n_tokens,
        "train_secs": round(seconds, 2),
        "tokens_per_sec": round(n_tokens / seconds, 2),
        "loss": [round(v, 6) for v in losses],
        "grad_norm": [round(v, 5) for v in norms],
    }


def main():
    from pathlib import Path

    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--limit", type=int, help="only so many rows of each file, to try it out")
    parser.add_argument("--init", type=Path, help="PEFT folder to start from, else PEFT's own initialisation")
    parser.add_argument("--save-init", type=Path, help="folder for the adapter before training")
    parser.add_argument("--out", type=Path, help="folder for the trained adapter")
    options = parser.parse_args()
    model = with_lora(base_model(options), options.init)
    import torch

    tok = tokenizer(options)
    rows, test = read(options.train)[: options.limit], read(options.test)[: options.limit]
    words = {c: tok(c, add_special_tokens=False)["input_ids"][0] for c in sorted({row["completion"] for row in rows})}
    if len(set(words.values())) < len(words):
        parser.error(f"completions share their first token: {words}")
    if options.save_init:
        model.save_pretrained(options.save_init)
    before, eval_secs = accuracy(torch, model, tok, test, words)
    log(f"accuracy before {before:.4f} in {eval_secs:.0f} s")
    result = train(torch, model, tok, rows, options)
    after, _ = accuracy(torch, model, tok, test, words)
    if options.out:
        model.save_pretrained(options.out)
    report(
        {
            "accuracy_before": before,
            "accuracy_after": after,
            "n_test": len(test),
            "eval_secs": round(eval_secs, 2),
            **result,
            "peak_rss_mib": peak_rss_mib(),
            "threads": options.threads,
            "seed": options.seed,
            "attention": options.attention,
            "versions": versions(),
        }
    )


if __name__ == "__main__":
    main()
