// The same step as bench_training.mjs, the same wasm and the same jax-js in Node.js on Dawn; ends with one line of JSON.
// `cargo xtask bench --web` runs it.
//
// ATTUNE_JAX  the folder with npm's @jax-js/jax, as it is distributed; ATTUNE_DIST, ATTUNE_WEBGPU as in node_worker.mjs
// ATTUNE_SIDE attune or jax: one process measures one of them, as both would keep a device

import { cpSync, mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NodeWorker, webgpu } from './node_worker.mjs';
import { ASKED, NEW_TOKENS, ROWS, STEP, model, rates } from './small_step.mjs';

const { ATTUNE_JAX: jax, ATTUNE_SIDE: side } = process.env;

const figures = side === 'jax' ? await theirs() : await ours();
console.log(JSON.stringify(figures));
// Dawn's threads go on otherwise.
process.exit(0);

async function ours() {
  const files = Object.fromEntries(readdirSync(model).map(name => [`models/small/${name}`, readFileSync(join(model, name))]));
  const begun = performance.now();
  const worker = await NodeWorker.start({ ...files, 'data/rows.jsonl': Buffer.from(ROWS) });
  const readySeconds = (performance.now() - begun) / 1000;
  const run = {
    model: 'small', out: 'runs/bench', device: 'webgpu', method: { kind: 'lora', rank: STEP.rank },
    data: { path: 'rows.jsonl', max_length: STEP.length },
    train: { max_steps: STEP.steps, batch_size: STEP.batch, learning_rate: 2e-4, sample_rows: 0 },
  };
  await worker.work({ command: 'open_model', key: 'models/small', name: 'small' });
  await worker.work({ command: 'read_data', key: 'data/rows.jsonl', name: 'rows.jsonl', settings: run.data, seed: 42 });
  const updates = await worker.work({ command: 'train', run });
  const steps = updates.filter(({ update, event }) => update === 'event' && event === 'step');
  const answer = async () => {
    const said = await worker.work({ command: 'generate', prompt: { text: 'The sky at noon is' }, voice: 'tuned', sampling: { max_new_tokens: NEW_TOKENS }, seed: 1 });
    const { n_tokens, duration_secs } = said.find(({ update }) => update === 'answer');
    return n_tokens / duration_secs;
  };
  await answer();
  return { tokens_per_sec: steps.map(step => step.tokens_per_sec), losses: steps.map(step => step.loss), generation: await answer(), gpu: gpuName, ready_secs: readySeconds };
}

async function theirs() {
  const gpu = await webgpu();
  const code = mkdtempSync(join(tmpdir(), 'attune-jax-'));
  cpSync(jax, code, { recursive: true });
  for (const name of ['jax_step.js', 'small_inputs.js']) cpSync(new URL(name, import.meta.url).pathname, join(code, name));
  const { train } = await import(pathToFileURL(join(code, 'jax_step.js')));
  const { seconds, losses } = await train({ ...ASKED, model: new Uint8Array(readFileSync(join(model, 'model.safetensors'))).buffer });
  return { tokens_per_sec: rates(seconds), losses, gpu };
}
