// The Data view: columns with names of their own, rows as read, problems that lead to their rows, the split, and
// settings changed elsewhere.

import assert from 'node:assert/strict';
import { cli, filesOf, test } from './page.mjs';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

await test(async opened => {
  const { page } = opened;
  const model = opened.tinyModel();
  await opened.drop('model-files', ...filesOf(model));
  await page.waitForSelector('#model-card');
  assert.match(await opened.text('#model-card'), /Licence\s+not stated/);
  await opened.view('Data');

  // No known shape: the columns and what is in them are shown, and what they are can be said.
  const rows = Array.from({ length: 12 }, (_, i) => `${i},"What is ${i}, please?",It is ${i}.`);
  const table = ['id,question,answer', ...rows.slice(0, 6), '6,,It is 6.', '7,"What is 7?",', ...rows.slice(8)].join('\n');
  await opened.drop('data-file', { name: 'faq.csv', bytes: Buffer.from(table) });
  await page.locator('#data-card h3', { hasText: 'faq.csv' }).waitFor();
  assert.match(await opened.text('#data-card'), /has the columns `id`, `question`, `answer`/);
  assert.ok(await page.locator('#columns').evaluate(details => details.open), 'the way out is in sight');
  assert.match(await opened.text('#columns'), /What is 0, please\?[\s\S]*It is 0\./);
  const pick = async (column, field) => {
    await page.locator(`#column-${column}`).selectOption(field);
    await opened.free();
  };
  await pick('question', 'prompt');
  await pick('answer', 'completion');
  await page.locator('#preview').waitFor();
  assert.match(await opened.text('#data-card'), /Rows\s+11[\s\S]*prompt-completion/);
  const first = await page.locator('#preview tbody tr').first().innerText();
  assert.match(first, /2\s+What is 0, please\?\s+It is 0\./);

  // A problem leads to its row, as it stands in the file.
  await page.locator('.problems a', { hasText: 'faq.csv:9' }).click();
  const bad = page.locator('#row-9');
  assert.match(await bad.innerText(), /7,"What is 7\?",[\s\S]*column 3 \(answer\): is empty/);
  assert.ok(await bad.evaluate(row => row.matches(':target') && row.getBoundingClientRect().top < innerHeight));
  assert.match(await opened.text('#data-card'), /1 bad row/);

  // The same file, read by the command line with the same setting.
  const file = join(opened.work, 'faq.csv');
  writeFileSync(file, table);
  let report = '';
  try {
    cli('data', 'check', file, '--model', model, '--columns', 'prompt=question,completion=answer');
  } catch ({ stdout }) {
    report = stdout;
  }
  assert.match(report, /^11 rows of shape prompt-completion, 1 bad/m);
  const tokens = await page.locator('#data-card .facts div', { hasText: 'Tokens' }).locator('dd').innerText();
  assert.ok(report.includes(`${tokens.replaceAll(',', '')} tokens`), `${tokens} in ${report}`);
  await opened.accessible('data');
  await opened.shot('data');

  // What is changed in another view is in force when coming back.
  const [, longest] = /Median, longest\s+\d+, (\d+)\s+Cut\s+0/.exec(await opened.text('#data-card'));
  await opened.view('Tune');
  await opened.set({ 'data.max_length': longest - 1, 'data.eval_fraction': 0.25 });
  await opened.view('Data');
  await page.waitForFunction(() => /Trained on, held out\s+\d+, [1-9][\s\S]*Cut\s+[1-9]/.test(document.querySelector('#data-card')?.innerText), null, { timeout: 10_000 });

  // Another file begins with its own names.
  await opened.drop('data-file', { name: 'one.jsonl', bytes: Buffer.from('{"text": "A single row, long enough to learn from."}\n') });
  await page.locator('#data-card h3', { hasText: 'one.jsonl' }).waitFor();
  assert.equal(await page.locator('#data-card .failure').count(), 0);
  return 'columns named, problems followed, settings of another view in force; as the command line reads it';
});
