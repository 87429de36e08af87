// After one visit the page opens without its host: from the service worker's files, with the models of this browser.

import assert from 'node:assert/strict';
import { filesOf, served, test } from './page.mjs';

await test(async opened => {
  const { page } = opened;
  const model = opened.tinyModel();
  await page.setInputFiles('#model-files', filesOf(model));
  await page.waitForSelector('#model-card');
  const kept = await page.waitForFunction(async () => {
    const names = await caches.keys();
    const files = names.length && (await (await caches.open(names[0])).keys()).map(({ url }) => url.split('/').at(-1));
    return files && files.some(name => name.endsWith('worker_bg.wasm')) && files;
  }, null, { timeout: 60_000 });
  const files = await kept.jsonValue();
  assert.ok(files.includes('index.html') && files.includes('zh-Hans.json'), files.join(' '));

  const manifest = await (await fetch(served('app.webmanifest'))).json();
  assert.equal(manifest.display, 'standalone');
  await page.context().setOffline(true);
  opened.faults = opened.faults.filter(fault => !fault.includes('samples/'));
  await opened.start();
  await page.locator('#stored-models').getByRole('button', { name: /^Open/ }).first().click();
  await page.waitForSelector('#model-card', { timeout: 20_000 });
  // Samples are the host's, and it is not there.
  opened.faults = opened.faults.filter(fault => !/samples|ERR_INTERNET_DISCONNECTED/.test(fault));
  return `opened without a network from ${files.length} kept files`;
});
