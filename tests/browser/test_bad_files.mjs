// Broken files, dropped where good ones belong: each is refused in the core's words where it was dropped, and the page
// works on with the next good one.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesOf, fixture, test } from './page.mjs';

await test(async opened => {
  const { page } = opened;
  const whole = opened.tinyModel();

  // A model of its own for each, broken by the second.
  const models = {
    'no tokenizer': [folder => rmSync(join(folder, 'tokenizer.json')), /no tokenizer; expected tokenizer\.json/],
    'another architecture': [folder => rewrite(join(folder, 'config.json'), config => ({ ...config, model_type: 'bert' })), /model_type `bert`.*llama/s],
    'broken settings': [folder => truncateSync(join(folder, 'config.json'), 40), /config\.json.*expected/s],
    'half the weights': [folder => truncateSync(join(folder, 'model.safetensors'), 80_000), /model\.safetensors.*expected an end within the file's/s],
  };
  for (const [name, [spoil, expected]] of Object.entries(models)) {
    const folder = opened.tinyModel(name);
    spoil(folder);
    await refused(name, filesOf(folder), expected);
  }
  const gguf = readFileSync(fixture('gguf/llama-Q8_0.gguf'));
  await refused('broken magic', [{ name: 'magic.gguf', bytes: Buffer.concat([Buffer.from('XGUF'), gguf.subarray(4)]) }], /begins with "XGUF"; expected a GGUF file/);
  await refused('half a GGUF file', [{ name: 'half.gguf', bytes: gguf.subarray(0, gguf.length / 2) }], /half\.gguf.*expected/s);
  await opened.drop('model-files', ...filesOf(whole));
  await page.waitForSelector('#model-card');
  assert.equal(await page.locator('#failure').count(), 0);

  await opened.view('Data');
  const rows = Array.from({ length: 8 }, (_, i) => JSON.stringify({ prompt: `Day ${i}`, completion: ' grey.' })).join('\n');
  const parquet = readFileSync(fixture('data/pairs.parquet'));
  const files = {
    'row.jsonl': [`${rows}\n{"prompt": "a", \n`, /row\.jsonl:9:\d+: broken JSON.*expected one whole JSON object/s, 8],
    'columns.csv': ['colour,shade\nblue,1\n', /columns\.csv:1: has the columns `colour`, `shade`; expected/, 0],
    'half.parquet': [parquet.subarray(0, parquet.length / 2), /half\.parquet: is broken Parquet/, 0],
    'empty.jsonl': ['', /empty\.jsonl: is empty; expected at least one row/, 0],
  };
  for (const [name, [content, expected, usable]] of Object.entries(files)) {
    await opened.drop('data-file', { name, bytes: Buffer.from(content) });
    const card = page.locator('#data-card', { has: page.locator('h3', { hasText: name }) });
    await card.waitFor();
    assert.match(await card.innerText(), expected, name);
    assert.equal(await page.getByRole('button', { name: 'On to Tune' }).count(), usable && 1, name);
  }
  await opened.drop('data-file', { name: 'good.jsonl', bytes: Buffer.from(rows) });
  await page.locator('#data-card h3', { hasText: 'good.jsonl' }).waitFor();
  assert.equal(await page.locator('#data-card .failure').count(), 0);

  await opened.view('Tune');
  await opened.set({ 'train.max_steps': 2, 'train.batch_size': 4 });
  await opened.free();
  await opened.view('Train');
  await page.click('#start');
  await page.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  assert.equal(await opened.text('#step'), '2 of 2');

  // A model that is refused leaves none open, so that nothing goes on with the one before.
  await opened.view('Model');
  await refused('after a good model', [{ name: 'half.gguf', bytes: gguf.subarray(0, gguf.length / 2) }], /half\.gguf.*expected/s);
  await opened.view('Data');
  assert.ok(await page.locator('#data-file').isDisabled());
  assert.equal(await page.locator('#data-card').count(), 0);
  return `${Object.keys(models).length + 3} models and ${Object.keys(files).length} data files refused, then trained`;

  async function refused(name, files, expected) {
    await opened.drop('model-files', ...files);
    await page.locator('#failure').waitFor({ timeout: 10_000 }).catch(() => assert.fail(`${name}: nothing is said`));
    await opened.free();
    assert.match(await opened.text('#failure'), expected, name);
    assert.equal(await page.locator('#model-card').count(), 0, name);
  }
});

function rewrite(path, change) {
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')))));
}
