// A browser that keeps no more: said in place, nothing half written left, and all is well once there is room. Some
// browsers tell how much is left, and are asked before a byte is written; this one names a fixed sum, whatever its
// quota.

import assert from 'node:assert/strict';
import { filesOf, test } from './page.mjs';
import { hubPlaces, startHub, tinyFiles } from './hub.mjs';

const files = tinyFiles();
const about = { tags: ['safetensors'] };
const FULL = /could not (store|write) .*(are needed|the browser's storage for this page is full)/s;
const ADVICE = /delete models or runs that are kept here, or free disk space/;

await test(async opened => {
  const { page } = opened;
  // Nobody says how long its files are, and they are longer than what is written at once.
  const large = Buffer.concat([files['model.safetensors'], Buffer.alloc(9 << 20)]);
  await startHub({
    'tiny/sized': { files, about },
    'tiny/unsized': { files: { ...files, 'model.safetensors': large }, about, isUnsized: true },
  });
  const used = () => page.evaluate(async () => (await navigator.storage.estimate()).usage);
  const fetch = async name => {
    await page.locator('#hub-search').fill(name);
    await page.locator('#hub-named button').click();
  };
  const refused = async expected => {
    await page.locator('#failure').waitFor({ timeout: 20_000 });
    await opened.free();
    const text = await opened.text('#failure');
    assert.match(text, expected);
    assert.match(text, ADVICE);
    assert.deepEqual(await opened.kept('models'), {}, 'nothing half written is left');
  };

  await opened.quota(await used() + 60_000);
  await opened.drop('model-files', ...filesOf(opened.tinyModel()));
  await refused(FULL);
  await fetch('tiny/sized');
  await refused(FULL);

  await opened.quota(await used() + (6 << 20));
  await fetch('tiny/unsized');
  await refused(/could not write model\.safetensors: the browser's storage for this page is full/);

  await opened.quota();
  await fetch('tiny/sized');
  await page.locator('#model-card h3', { hasText: 'tiny/sized' }).waitFor({ timeout: 20_000 });
  assert.match(await opened.text('#room'), /kept, .* left/);
  return 'three ways of running full are said, leave nothing behind, and end with the quota';
}, hubPlaces);
