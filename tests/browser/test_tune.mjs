// The settings: a bad value is said in words and holds the start up, what a run needs follows the settings, too much
// of it comes with what to change, and everything reads in Chinese too.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cli, test } from './page.mjs';

const N_ROWS = 1500;

await test(async opened => {
  const { page, work } = opened;
  const model = opened.tinyModel();
  const rows = join(work, 'rows.jsonl');
  const words = 'the sky over the hills was grey and the river ran on below it '.repeat(4);
  writeFileSync(rows, Array.from({ length: N_ROWS }, (_, i) => JSON.stringify({ prompt: `${i} ${words}`, completion: ' blue.' })).join('\n') + '\n');
  const field = key => page.locator(`#set-${key.replaceAll('.', '-')}`);
  const needed = async () => {
    const [, number, unit] = (await opened.text('#needs-memory')).match(/About ([\d.]+) (kB|MB|GB)/);
    return Number(number) * { kB: 1e3, MB: 1e6, GB: 1e9 }[unit];
  };
  /** What is needed once it is other than before. */
  const changed = async change => {
    const before = await opened.text('#needs');
    await change();
    await page.waitForFunction(before => document.querySelector('#needs-memory') && document.querySelector('#needs').innerText !== before, before);
    return needed();
  };
  const step = page.getByRole('navigation').getByRole('button', { name: 'Tune' });

  assert.equal(await step.getAttribute('class'), 'step', 'nobody has looked at the settings');
  await opened.view('Tune');
  assert.match(await opened.text('#needs'), /Open a model/);
  await opened.view('Model');
  await opened.bring(model, rows);
  await opened.view('Tune');
  await page.waitForSelector('#needs-memory');
  assert.equal(await step.getAttribute('class'), 'step done');
  assert.match(await opened.text('#needs-time'), /Roughly .* for 564 steps/, 'three passes over 188 batches');

  // What is no number stays, is said in words and holds the start up.
  await opened.set({ 'train.batch_size': 'many' });
  await page.locator('.problem', { hasText: 'expected a whole number, 0 or more' }).waitFor();
  assert.equal(await field('train.batch_size').getAttribute('aria-invalid'), 'true');
  assert.equal(await page.getByRole('button', { name: 'On to Train' }).count(), 0);
  await opened.accessible('3-tune-problem');
  await opened.shot('3-tune-problem');
  await opened.view('Train');
  assert.match(await opened.text('#to-mend'), /Batch size/);
  assert.ok(await page.locator('#start').isDisabled());
  await opened.view('Tune');
  assert.equal(await field('train.batch_size').inputValue(), 'many');
  // What is out of range is found by the core.
  await opened.set({ 'train.batch_size': 0, 'train.warmup_ratio': 2 });
  await page.locator('.problem', { hasText: '0: expected a whole number from 1' }).waitFor();
  await page.locator('.problem', { hasText: '2: expected a number from 0 to 1' }).waitFor();
  assert.match(await opened.text('#to-mend'), /Batch size.*Warm-up share|Warm-up share.*Batch size/);
  await opened.set({ 'train.warmup_ratio': '0' });
  await page.getByRole('button', { name: 'reset to 8: Batch size' }).click();
  await page.waitForSelector('#needs-memory');
  assert.equal(await field('train.batch_size').inputValue(), '8');

  // More rows at once need more; too many come with what to change.
  const of8 = await needed();
  const of32 = await changed(() => opened.set({ 'train.batch_size': 32 }));
  assert.ok(of32 > 1.5 * of8, `${of8} bytes for 8 rows, ${of32} for 32`);
  assert.equal(await page.locator('#needs .advice').count(), 0);
  await changed(() => opened.set({ 'method.rank': 256 }));
  const tooMuch = await changed(() => opened.set({ 'train.batch_size': N_ROWS }));
  assert.ok(tooMuch > 2 ** 32, `${tooMuch}`);
  assert.match(await opened.text('#needs-memory'), /more than the 4\.29 GB that this tab can have/);
  const advice = page.locator('#needs .advice li');
  assert.match((await advice.allInnerTexts()).join('\n'), /Batch size [\d,]+, Batches per step \d+: needs [\d.]+ (GB|MB)/);
  await opened.accessible('3-tune-over');
  await opened.shot('3-tune-over');
  const fits = await changed(() => advice.filter({ hasText: 'Batch size' }).getByRole('button').click());
  assert.ok(fits <= 2 ** 32, `${fits}`);
  assert.ok(Number(await field('train.batch_size').inputValue()) < N_ROWS);

  // A method brings its own learning rate.
  await page.selectOption('#method', 'full');
  await page.getByText('Learning rate in force: 2e-5').waitFor();
  assert.equal(await field('method.rank').count(), 0);
  await page.selectOption('#method', 'lora');
  await page.getByText('Learning rate in force: 2e-4').waitFor();

  // The same in Chinese, settings and what they do.
  await page.selectOption('#language', 'zh-Hans');
  await page.getByText('一次前向计算的行数。').waitFor();
  assert.match(await opened.text('#needs'), /内存峰值约/);
  const untranslated = await page.locator('.group label, .group .hint, main .fold summary').evaluateAll(parts =>
    parts.map(part => part.textContent).filter(text => !/[\u4e00-\u9fff]|^(Alpha|rsLoRA|Dropout|Adam .)/.test(text)));
  assert.deepEqual(untranslated, []);
  await opened.shot('3-tune-zh');
  await page.selectOption('#language', 'en');

  // A few steps tell how fast this device is. The command line reckons with the same memory.
  await opened.set({ 'train.batch_size': 2, 'train.gradient_accumulation_steps': 1, 'train.max_steps': 4 });
  await opened.free();
  await opened.view('Train');
  await page.click('#start');
  await page.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  await opened.view('Tune');
  await page.locator('#needs-time', { hasText: 'earlier steps on this device' }).waitFor();
  const events = cli('train', '--model', model, '--data', rows, '--out', join(work, 'run'), '--device', 'cpu', '--batch-size', '2',
    '--max-steps', '4', '--json').trim().split('\n').map(line => JSON.parse(line));
  const native = events.find(({ event }) => event === 'estimate');
  const { weights, adapter, activations } = native.memory;
  const shown = await opened.text('#needs');
  for (const bytes of [weights, adapter, activations]) {
    const text = bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
    assert.ok(shown.includes(text), `${text} is not in ${shown}`);
  }
  return `8 rows ${(of8 / 1e6).toFixed(0)} MB, 32 rows ${(of32 / 1e6).toFixed(0)} MB; ${(tooMuch / 1e9).toFixed(1)} GB brought down to ${(fits / 1e9).toFixed(1)} GB`;
});
