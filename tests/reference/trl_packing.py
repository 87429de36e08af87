"""One epoch of LoRA with packing in TRL's SFTTrainer, from the rows to the saved adapter.

    python trl_packing.py --model SmolLM2-135M-Instruct.Q4_1.gguf --train packed.jsonl --out adapter

Rows are {"prompt", "completion"}, the loss is on the completions, packing is TRL's own best-fit decreasing. It joins
the sequences of a batch into one row, whose attention is then over all of it; `--accumulated` makes the same step of
several batches instead. Each optimizer step is told as it is done, with its tokens: whoever started the process times
it.
"""

import time
from pathlib import Path

from shared import arguments, base_model, log, lora_config, tell_step, tokenizer


def main():
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--accumulated", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    options = parser.parse_args()
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from peft_reviews import read

    disable_progress_bars()
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in read(options.train)]

    class Counting(SFTTrainer):
        n_tokens = 0

        def training_step(self, model, inputs, *more, **named):
            mask = inputs.get("attention_mask")
            self.n_tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
            return super().training_step(model, inputs, *more, **named)

    class Telling(TrainerCallback):
        def on_train_begin(self, *_, **__):
            self.began = time.perf_counter()

        def on_step_end(self, _, state, *__, **___):
            tell_step(state.global_step, trainer.n_tokens, time.perf_counter() - self.began)
            trainer.n_tokens = 0

    model = base_model(options)
    # The file's weights are dequantised while they are read; the trainer would refuse them for the file's sake.
    model.is_quantized = False
    trainer = Counting(
        model=model,
        args=SFTConfig(
            output_dir=str(options.out), num_train_epochs=1, per_device_train_batch_size=options.batch_size,
            gradient_accumulation_steps=options.accumulated, max_length=options.max_length, packing=True,
            learning_rate=options.learning_rate, weight_decay=0.0, max_grad_norm=1.0, gradient_checkpointing=False,
            use_cpu=True, bf16=False, save_strategy="no", report_to="none", disable_tqdm=True, seed=options.seed,
            logging_strategy="no",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(options),
        peft_config=lora_config(),
        callbacks=[Telling()],
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(options.out))
    log(f"{len(trainer.train_dataset)} sequences of {len(rows)} rows; adapter in {options.out}")


if __name__ == "__main__":
    main()
