// After one visit the page opens without its host: from the service worker's files, with the models of this browser,
// on the device that was asked for.

import assert from 'node:assert/strict';
import { filesOf, served, test } from './page.mjs';

await test(async opened => {
  const { page } = opened;
  const model = opened.tinyModel();
  await page.setInputFiles('#model-files', filesOf(model));
  await page.waitForSelector('#model-card');
  const files = await opened.until(async () => {
    const name = (await caches.keys()).find(name => name.startsWith(`attune ${location.origin}/ `));
    const files = name && (await (await caches.open(name)).keys()).map(({ url }) => url.split('/').at(-1));
    return files && files.some(name => /worker.*_bg\.wasm$/.test(name)) && files;
  });
  // The page itself lies under its folder's address.
  assert.ok(files.includes('') && files.includes('zh-Hans.json'), files.join(' '));

  const manifest = await (await fetch(served('app.webmanifest'))).json();
  assert.equal(manifest.display, 'standalone');
  await page.context().setOffline(true);
  opened.faults = opened.faults.filter(fault => !fault.includes('samples/'));
  await opened.start();
  assert.match(await page.locator('.device').innerText(), /because the CPU was asked for/);
  await page.locator('#stored-models').getByRole('button', { name: /^Open/ }).first().click();
  await page.waitForSelector('#model-card', { timeout: 20_000 });
  // Samples and a newer version are the host's, and it is not there.
  opened.faults = opened.faults.filter(fault => !/samples|ERR_INTERNET_DISCONNECTED/.test(fault));
  return `opened without a network from ${files.length} kept files`;
});
