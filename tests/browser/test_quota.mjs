// A browser that keeps no more: refused before a byte is written where the size is known, cleaned up where it is not,
// said in place, and all is well once there is room.

import assert from 'node:assert/strict';
import { filesOf, test } from './page.mjs';
import { hubPlaces, startHub, tinyFiles } from './hub.mjs';

const files = tinyFiles();
const about = { tags: ['safetensors'] };
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
  await refused(/could not store .*model\.safetensors.*are needed, and the browser lets this page keep .* more/s);
  await fetch('tiny/sized');
  await refused(/could not store tiny\/sized: .* are needed/s);

  await opened.quota(await used() + (6 << 20));
  await fetch('tiny/unsized');
  await refused(/could not write model\.safetensors: the browser's storage for this page is full/);

  await opened.quota();
  await fetch('tiny/sized');
  await page.locator('#model-card h3', { hasText: 'tiny/sized' }).waitFor({ timeout: 20_000 });
  assert.match(await opened.text('#room'), /kept, .* left/);
  return 'three ways of running full are said, leave nothing behind, and end with the quota';
}, hubPlaces);
