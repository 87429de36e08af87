// A worker that dies in mid-run, with a word and without one: the page says so, starts another in place and goes on
// from the last checkpoint to the same end.

import assert from 'node:assert/strict';
import { test } from './page.mjs';

const STEPS = 400;
const SAVE_STEPS = 10;

await test(async opened => {
  const { page } = opened;
  const model = opened.tinyModel();
  const rows = opened.skies(24, ['blue', 'grey']);
  await opened.bring(model, rows);
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4 });
  await opened.set({ 'train.save_steps': SAVE_STEPS, 'train.sample_rows': 0 });
  await opened.view('Train');
  await page.click('#start');
  const after = step => page.waitForFunction(at => parseInt(document.querySelector('#step').textContent) > at, step);

  await after(SAVE_STEPS + 2);
  // As the browser does where memory is short.
  await opened.inWorker(() => close());
  await page.waitForSelector('#restart');
  await opened.accessible('worker died');
  await opened.shot('7-worker-died');
  assert.match(await opened.goOn(), /The worker stopped: the browser ended it\./);

  await after(3 * SAVE_STEPS);
  // What a wasm program does where its memory ends.
  await opened.inWorker(() => setTimeout(() => { throw new WebAssembly.RuntimeError('unreachable'); }));
  assert.match(await opened.goOn(), /The worker stopped: memory may have run out; a smaller batch_size/);
  opened.faults = opened.faults.filter(fault => !/RuntimeError: unreachable/.test(fault));
  await page.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  assert.equal(await opened.text('#step'), `${STEPS} of ${STEPS}`);

  const { runFile, losses } = await opened.takeFigures();
  const apart = opened.repeat(runFile, model, rows, losses);
  return `two workers died, the third ended the run; at most ${apart.toExponential(1)} from an unbroken run of the command line`;
});
