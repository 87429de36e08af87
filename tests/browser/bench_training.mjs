// Times training steps of a small Llama in the page on WebGPU, then the same step in jax-js in the same browser; ends
// with one line of JSON. `cargo xtask bench --web` runs it.
//
// ATTUNE_JAX  the folder with npm's @jax-js/jax, as it is distributed

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { filesOf, testOnGpu } from './page.mjs';

// 1.45 M parameters.
const SHAPE = { hidden_size: 192, intermediate_size: 512, num_hidden_layers: 3, num_attention_heads: 6, num_key_value_heads: 6, head_dim: 32, vocab_size: 320 };
const [BATCH, LENGTH, RANK, STEPS] = [4, 64, 8, 5];
const jax = process.env.ATTUNE_JAX;

await testOnGpu(async opened => {
  const { page } = opened;
  const startSeconds = await page.evaluate(() => performance.now() / 1000);
  const model = opened.tinyModel();
  const config = join(model, 'config.json');
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...SHAPE }));
  writeFileSync(join(model, 'model.safetensors'), weights());
  // Long enough that every row fills its length.
  const rows = join(opened.work, 'rows.jsonl');
  writeFileSync(rows, Array.from({ length: 40 }, (_, i) => JSON.stringify({ text: `${i} ${String.fromCharCode(97 + i % 26)}${i * i} `.repeat(40) })).join('\n') + '\n');
  await page.setInputFiles('#model-files', filesOf(model));
  await page.waitForSelector('#model-card');
  await opened.view('Data');
  await page.setInputFiles('#data-file', rows);
  await page.locator('#data-card h3', { hasText: 'rows.jsonl' }).waitFor();
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': BATCH, 'data.max_length': LENGTH, 'method.rank': RANK, 'train.sample_rows': 0 });
  await opened.free();
  await opened.view('Train');
  await page.click('#start');
  await page.waitForSelector('#start:not(:disabled)', { timeout: 500_000 });
  await opened.view('Take home');
  const figures = await opened.save(page.getByRole('button', { name: 'Save metrics.jsonl' }), 'metrics.jsonl');
  const steps = readFileSync(figures, 'utf8').trim().split('\n').map(JSON.parse).filter(line => line.event === 'step');
  assert.ok(steps.every(step => step.n_tokens === BATCH * LENGTH), `tokens of the steps: ${steps.map(step => step.n_tokens)}`);
  const ours = steps.map(step => step.tokens_per_sec);

  const server = createServer((request, response) => {
    const name = basename(new URL(request.url, 'http://localhost').pathname);
    const file = name === 'jax_step.js' ? new URL(name, import.meta.url) : join(jax, name);
    response.setHeader('content-type', name.endsWith('.js') ? 'text/javascript' : 'text/html');
    response.end(name.endsWith('.js') ? readFileSync(file) : '<!DOCTYPE html><title>jax-js</title>');
  });
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  // One at a time: the page's worker holds the machine otherwise.
  const context = page.context();
  await page.goto('about:blank');
  const other = await context.newPage();
  await other.goto(`http://127.0.0.1:${server.address().port}/`);
  const asked = { shape: SHAPE, rank: RANK, batch: BATCH, length: LENGTH, steps: STEPS, learningRate: 2e-4 };
  const { seconds, losses } = await other.evaluate(async asked => (await import('./jax_step.js')).train(asked), asked);
  server.close();
  assert.ok(losses.every(Number.isFinite) && losses.at(-1) < losses[0], `jax-js learns: ${losses}`);
  const theirs = seconds.map(each => BATCH * LENGTH / each);

  // The first steps of both compile kernels.
  const settled = speeds => speeds.slice(2).sort((a, b) => a - b)[Math.floor((speeds.length - 2) / 2)];
  const [attune, reference] = [settled(ours), settled(theirs)];
  return JSON.stringify({ case: `train ${BATCH}x${LENGTH}`, attune, reference, ratio: attune / reference, first_step_secs: [BATCH * LENGTH / ours[0], seconds[0]], ready_secs: startSeconds });
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
