// The whole way through the page in a real browser, with a tiny model on the CPU: files in, loss falls, run stopped
// and resumed, both voices asked, adapter taken home. What comes home is compared with the command line's own work.
// On the way every view is checked for what keeps people out, and training for what holds the page up.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cli, filesOf, test } from './page.mjs';

const PROMPT = 'The sky at noon is';
const STEPS = 200;

await test(async opened => {
  const { page, work } = opened;
  const model = opened.tinyModel();
  const rows = join(work, 'rows.jsonl');
  const colours = ['blue', 'grey', 'white'];
  writeFileSync(rows, Array.from({ length: 24 }, (_, i) =>
    JSON.stringify({ prompt: `The sky on day ${i} is`, completion: ` ${colours[i % 3]}.` })).join('\n') + '\n');
  const see = async name => {
    await opened.accessible(name);
    await opened.shot(name);
  };

  await see('1-model-empty');
  // A file that is no model is refused where it was chosen.
  await page.setInputFiles('#model-files', rows);
  await page.waitForSelector('#failure');
  assert.match(await opened.text('#failure'), /no config\.json and no GGUF file/);
  await see('1-model-failed');
  // What is no model is not kept.
  await page.waitForFunction(() => !document.querySelector('#stored-models'));
  await page.setInputFiles('#model-files', filesOf(model));
  await page.waitForSelector('#model-card');
  assert.match(await opened.text('#model-card'), /llama/);
  assert.equal(await page.locator('#failure').count(), 0);
  await see('1-model');

  await opened.view('Data');
  await page.setInputFiles('#data-file', { name: 'bad.jsonl', mimeType: 'application/json', buffer: Buffer.from('{"prompt": 3}\n'.repeat(30) + '{"prompt":"a","completion":" b"}\n') });
  await page.waitForSelector('#data-card');
  assert.match(await opened.text('#data-card'), /bad\.jsonl:1/);
  await see('2-data-problems');
  await page.setInputFiles('#data-file', rows);
  await page.locator('#data-card h3', { hasText: 'rows.jsonl' }).waitFor();
  assert.ok(await page.locator('.rows .token.learned').count() > 0);
  await see('2-data');

  await opened.view('Tune');
  await page.evaluate(() => document.querySelectorAll('main details').forEach(fold => fold.setAttribute('open', '')));
  await see('3-tune-unfolded');
  // No answers on the way: those of a model of random bytes are rare characters, whose fonts Chromium looks for in
  // another process while the main thread waits, 5 to 30 ms each at 0.5 ms of its own work. What a real model's
  // answers take is measured with SmolLM2.
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4, 'train.sample_rows': 0 });
  await page.evaluate(() => document.querySelectorAll('main details').forEach(fold => fold.removeAttribute('open')));
  await see('3-tune');

  await opened.view('Train');
  const longest = await opened.unblocked(async () => {
    await page.click('#start');
    await page.waitForFunction(() => parseInt(document.querySelector('#step').textContent) >= 3);
    await page.click('#stop');
    await page.click('#resume', { timeout: 60_000 });
    await page.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  });
  assert.equal(await opened.text('#step'), `${STEPS} of ${STEPS}`);
  await see('4-train');

  await opened.view('Try');
  await page.fill('#prompt', PROMPT);
  const chat = page.locator('.check input');
  if (await chat.count()) await chat.uncheck();
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await opened.set({ max_new_tokens: 8 });
  await page.click('#ask-both');
  await page.waitForFunction(() => document.querySelector('#said-base')?.textContent);
  await page.waitForSelector('#ask-both:not(:disabled)');
  const said = { tuned: await page.locator('#said-tuned').textContent(), base: await page.locator('#said-base').textContent() };
  await see('5-try');

  const { runFile, losses } = await opened.takeFigures();
  await see('6-take-home');
  const archive = await opened.save(page.locator('#save-adapter'), 'adapter.zip');
  assert.equal(losses.length, STEPS);
  assert.ok(losses.at(-1) < losses[0] * 0.8, `loss went from ${losses[0]} to ${losses.at(-1)}`);

  // The command line loads the adapter and says the same.
  const adapter = join(work, 'adapter');
  execFileSync('python3', ['-m', 'zipfile', '-e', archive, adapter]);
  const generate = (...more) => JSON.parse(cli('generate', '--model', model, '--prompt', PROMPT, '--max-new-tokens', '8', '--device', 'cpu', '--json', ...more)).text;
  assert.equal(said.tuned, generate('--adapter', adapter));
  assert.equal(said.base, generate());

  const apart = opened.repeat(runFile, model, rows, losses);
  return `loss ${losses[0].toFixed(3)} to ${losses.at(-1).toFixed(3)}, at most ${apart.toExponential(1)} from the command line; ${opened.peft(model, adapter)}; main thread's longest task ${longest || 'under 50'} ms; axe-core: nothing serious`;
});
