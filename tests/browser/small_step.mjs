// The step that is timed: LoRA on the small Llama that `cargo xtask bench --web` writes.
//
// ATTUNE_MODEL the model's folder
// ATTUNE_STEP  JSON with batch, length, rank, steps

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const model = process.env.ATTUNE_MODEL;
export const STEP = JSON.parse(process.env.ATTUNE_STEP);
export const NEW_TOKENS = 48;

// Signs that no merge of the tokenizer touches: each is a token. The rows are alike, so that every batch is the same.
const SIGNS = Array.from({ length: 2 * STEP.length }, (_, i) => 48 + (i * i * 7 + i * 3) % 43);
export const ROWS = `${JSON.stringify({ text: String.fromCharCode(...SIGNS) })}\n`.repeat(STEP.batch * 10);

/** What jax_step.js and tfjs_step.js are asked for, the model's bytes aside. */
export const ASKED = {
  ...STEP,
  shape: JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')),
  // The tokenizer has the sign `!`, number 33, as 3.
  ids: SIGNS.slice(0, STEP.length + 1).map(sign => sign - 30),
  learningRate: 2e-4,
};

/** Tokens a second of steps that took these seconds. */
export const rates = seconds => seconds.map(each => STEP.batch * STEP.length / each);
