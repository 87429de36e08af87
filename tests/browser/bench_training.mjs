// Times training steps and an answer of a small Llama in the page on WebGPU, then the same step in jax-js in the same
// browser; ends with one line of JSON. `cargo xtask bench --web` runs it.
//
// ATTUNE_JAX  the folder with npm's @jax-js/jax, as it is distributed

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { filesOf, testOnGpu } from './page.mjs';
import { ASKED, BATCH, LENGTH, NEW_TOKENS, RANK, ROWS, STEPS, enlarge, round } from './small_step.mjs';

const jax = process.env.ATTUNE_JAX;

await testOnGpu(async opened => {
  const { page } = opened;
  const readySeconds = await page.evaluate(() => performance.now() / 1000);
  const model = opened.tinyModel();
  enlarge(model, readFileSync(join(model, 'config.json'), 'utf8'));
  const rows = join(opened.work, 'rows.jsonl');
  writeFileSync(rows, ROWS);
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
  const { seconds, losses } = await other.evaluate(async asked => (await import('./jax_step.js')).train(asked), ASKED);
  server.close();
  assert.ok(losses.every(Number.isFinite) && losses.at(-1) < losses[0], `jax-js learns: ${losses}`);
  const theirs = seconds.map(each => BATCH * LENGTH / each);
  return JSON.stringify(round(ours, theirs, { ready_secs: readySeconds, generation }));
});
