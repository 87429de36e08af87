// SmolLM2-135M in the page, as it is served beside it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { served, skip } from './page.mjs';

/** LoRA steps on the served reviews, and the same ones by the command line on the CPU; says how they went. */
export async function trainSmolLm2(opened, steps, settings = {}) {
  const { page, work } = opened;
  const samples = await (await fetch(served('samples/index.json'))).json();
  const [model] = samples.models.filter(sample => sample.name === 'smollm2-135m');
  const [data] = samples.data;
  if (!model || !data) skip('SmolLM2 or its reviews could not be fetched: nothing compared');

  await page.locator('.choice', { hasText: model.title }).click();
  await page.waitForSelector('#model-card', { timeout: 120_000 });
  await opened.view('Data');
  await page.locator('.choice', { hasText: data.title }).click();
  await page.waitForSelector('#data-card', { timeout: 60_000 });
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': steps, 'train.batch_size': 1, 'data.max_length': 128, ...settings });
  await opened.free();
  await opened.view('Train');
  const begun = performance.now();
  const longest = await opened.unblocked(async () => {
    await page.click('#start');
    await page.waitForSelector('#start:not(:disabled)', { timeout: 300_000 });
  });
  const seconds = (performance.now() - begun) / 1000;
  assert.equal(await opened.text('#step'), `${steps} of ${steps}`);
  const { runFile, losses } = await opened.takeFigures();

  // What was served is what the command line gets.
  const download = async ({ file }) => {
    const path = join(work, file);
    writeFileSync(path, Buffer.from(await (await fetch(served(`samples/${file}`))).arrayBuffer()));
    return path;
  };
  const apart = opened.repeat(runFile, await download(model), await download(data), losses);
  return `losses ${losses.map(loss => loss.toFixed(3)).join(', ')}, at most ${apart.toExponential(1)} from the command line's on the CPU, in ${seconds.toFixed(0)} s; main thread's longest task ${longest || 'under 50'} ms`;
}
