// The small Llama whose training step is timed, and how figures are taken of it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

// 1.45 M parameters.
export const SHAPE = { hidden_size: 192, intermediate_size: 512, num_hidden_layers: 3, num_attention_heads: 6, num_key_value_heads: 6, head_dim: 32, vocab_size: 320 };
export const [BATCH, LENGTH, RANK, STEPS] = [4, 64, 8, 7];
export const NEW_TOKENS = 48;
/** What jax_step.js is asked for. */
export const ASKED = { shape: SHAPE, rank: RANK, batch: BATCH, length: LENGTH, steps: STEPS, learningRate: 2e-4 };

/** Rows that all fill their length. */
export const ROWS = Array.from({ length: 40 }, (_, i) => JSON.stringify({ text: `${i} ${String.fromCharCode(97 + i % 26)}${i * i} `.repeat(40) })).join('\n') + '\n';

/** Makes the tiny model of the fixtures in `folder` the small one; `config` is the text of its config.json. */
export function enlarge(folder, config) {
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...JSON.parse(config), ...SHAPE }));
  writeFileSync(join(folder, 'model.safetensors'), weights());
}

/** Tokens a second once everything is compiled: the first two steps compile kernels. */
export function settled(tokensASecond) {
  const sorted = tokensASecond.slice(2).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** The figures of one round, steps in tokens a second. */
export const round = (ours, theirs, more) => ({
  attune: settled(ours),
  reference: settled(theirs),
  ratio: settled(ours) / settled(theirs),
  first_step_secs: [BATCH * LENGTH / ours[0], BATCH * LENGTH / theirs[0]],
  ...more,
});

/** A safetensors file with the model's weights, drawn at random with a deviation of about 0.02. */
function weights() {
  const { hidden_size: d, intermediate_size: wide, num_hidden_layers: layers, vocab_size: vocab } = SHAPE;
  const shapes = { 'model.embed_tokens.weight': [vocab, d], 'model.norm.weight': [d], 'lm_head.weight': [vocab, d] };
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}.`;
    for (const name of ['q', 'k', 'v', 'o']) shapes[`${at}self_attn.${name}_proj.weight`] = [d, d];
    for (const name of ['gate', 'up']) shapes[`${at}mlp.${name}_proj.weight`] = [wide, d];
    shapes[`${at}mlp.down_proj.weight`] = [d, wide];
    for (const name of ['input_layernorm', 'post_attention_layernorm']) shapes[`${at}${name}.weight`] = [d];
  }
  const header = {}, values = [];
  let seed = 1, at = 0;
  const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (const [name, shape] of Object.entries(shapes)) {
    const n = shape.reduce((product, n) => product * n, 1);
    values.push(Float32Array.from({ length: n }, () => (shape.length === 1 ? 1 : (next() - 0.5) * 0.07)));
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at += 4 * n] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...values.map(each => Buffer.from(each.buffer))]);
}
