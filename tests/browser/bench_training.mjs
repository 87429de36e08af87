// Times training steps and an answer of a small Llama in the page, on WebGPU or on the CPU; on WebGPU then the same step
// in jax-js and in TensorFlow.js, in the same browser. Ends with one line of JSON. `cargo xtask bench --web` runs it.
//
// ATTUNE_DEVICE webgpu or cpu
// ATTUNE_JAX    the folder with npm's @jax-js/jax, as it is distributed
// ATTUNE_TFJS   the scripts of TensorFlow.js and of its WebGPU backend, parted as the folders of PATH

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, delimiter, join } from 'node:path';
import { test, testOnGpu } from './page.mjs';
import { ASKED, NEW_TOKENS, ROWS, STEP, model, rates } from './small_step.mjs';

const { ATTUNE_DEVICE: device, ATTUNE_JAX: jax, ATTUNE_TFJS: tfjs } = process.env;

await (device === 'cpu' ? test : testOnGpu)(async opened => {
  const attune = await ours(opened);
  if (device === 'cpu') return JSON.stringify({ attune });
  // One at a time: the page's worker holds the machine otherwise.
  const context = opened.page.context();
  await opened.page.goto('about:blank');
  return JSON.stringify({ attune, ...(await theirs(context)) });
});

async function ours(opened) {
  const { page } = opened;
  const readySeconds = await page.evaluate(() => performance.now() / 1000);
  const rows = join(opened.work, 'rows.jsonl');
  writeFileSync(rows, ROWS);
  await opened.bring(model, rows);
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEP.steps, 'train.batch_size': STEP.batch, 'data.max_length': STEP.length, 'method.rank': STEP.rank, 'train.sample_rows': 0 });
  await opened.free();
  await opened.view('Train');
  await page.click('#start');
  await page.waitForSelector('#start:not(:disabled)', { timeout: 500_000 });

  await opened.view('Try');
  await page.fill('#prompt', 'The sky at noon is');
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await opened.set({ max_new_tokens: NEW_TOKENS });
  // The first answer compiles kernels.
  const answer = async () => {
    await page.click('#ask-tuned');
    await page.waitForSelector('#ask-tuned:not(:disabled)', { timeout: 200_000 });
    const [, rate] = (await page.locator('.said .end').last().innerText()).match(/([\d.,]+) tokens\/s/);
    return Number(rate.replaceAll(',', ''));
  };
  await answer();
  const generation = await answer();

  await opened.view('Take home');
  const figures = await opened.save(page.getByRole('button', { name: 'Save metrics.jsonl' }), 'metrics.jsonl');
  const steps = readFileSync(figures, 'utf8').trim().split('\n').map(JSON.parse).filter(line => line.event === 'step');
  assert.ok(steps.every(step => step.n_tokens === STEP.batch * STEP.length), `tokens of the steps: ${steps.map(step => step.n_tokens)}`);
  return { tokens_per_sec: steps.map(step => step.tokens_per_sec), losses: steps.map(step => step.loss), generation, ready_secs: readySeconds };
}

/** The same step in the libraries, each in a page of its own. */
async function theirs(context) {
  const here = name => new URL(name, import.meta.url).pathname;
  const tf = tfjs.split(delimiter);
  const files = {
    ...Object.fromEntries(['jax_step.js', 'tfjs_step.js', 'small_inputs.js'].map(name => [name, here(name)])),
    ...Object.fromEntries(tf.map(path => [basename(path), path])),
    'model.safetensors': join(model, 'model.safetensors'),
  };
  const scripts = { '/jax': '', '/tfjs': tf.map(path => `<script src="${basename(path)}"></script>`).join('') };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const name = basename(pathname);
    const isPage = pathname in scripts;
    const file = files[name] ?? (name.endsWith('.js') ? join(jax, name) : null);
    // The browser also asks for an icon.
    if (!isPage && !file) return response.writeHead(404).end();
    response.setHeader('content-type', isPage ? 'text/html' : name.endsWith('.js') ? 'text/javascript' : 'application/octet-stream');
    response.end(isPage ? `<!DOCTYPE html><title>${name}</title>${scripts[pathname]}` : readFileSync(file));
  });
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  const side = async name => {
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/${name}`);
    const { seconds, losses } = await page.evaluate(async ([script, asked]) => {
      const model = await (await fetch('model.safetensors')).arrayBuffer();
      return (await import(script)).train({ ...asked, model });
    }, [`./${name}_step.js`, ASKED]);
    await page.close();
    return { tokens_per_sec: rates(seconds), losses };
  };
  try {
    return { jax: await side('jax'), tfjs: await side('tfjs') };
  } finally {
    server.close();
  }
}
