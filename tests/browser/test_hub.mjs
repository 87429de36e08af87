// Models of a hub, a real server on this machine: found, fetched, gone on with after a break, refused, chosen.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fixture, test } from './page.mjs';
import { endpoint, hubPlaces, startHub, tinyFiles } from './hub.mjs';

const CUT = 50_000;
const TOKEN = 'hf_right';
const files = tinyFiles();
const about = (total, more = {}) => ({ tags: ['safetensors', 'license:apache-2.0'], config: { model_type: 'llama' }, safetensors: { total }, ...more });
const strange = Buffer.from(JSON.stringify({ ...JSON.parse(files['config.json']), model_type: 'bert' }));
const gguf = readFileSync(fixture('gguf/llama-Q8_0.gguf'));

await test(async opened => {
  const { page } = opened;
  const hub = await startHub({
    'tiny/large': { files, about: about(2e9) },
    'tiny/llama': { files, about: about(1e5) },
    'tiny/gated': { files, about: about(3e9, { gated: 'manual' }), token: TOKEN },
    'tiny/strange': { files: { ...files, 'config.json': strange }, about: about(1, { config: { model_type: 'bert' } }) },
    'tiny/broken': { files, about: about(4e9), tampered: { 'model.safetensors': Buffer.alloc(files['model.safetensors'].length) } },
    'tiny/quants': { files: { 'a.Q8_0.gguf': gguf, 'b.Q8_0.gguf': gguf, 'README.md': Buffer.from('x') }, about: { tags: ['gguf'], gguf: { total: 5e9, architecture: 'llama' } } },
  });
  const wait = () => opened.free();
  const search = text => page.locator('#hub-search').fill(text);
  const openNamed = async name => {
    await search(name);
    await page.locator('#hub-named button').click();
  };
  const failure = async expected => {
    await page.locator('#failure').waitFor({ timeout: 20_000 });
    await wait();
    assert.match(await opened.text('#failure'), expected);
  };
  const card = name => page.locator('#model-card h3', { hasText: name }).waitFor({ timeout: 20_000 });

  // Typing asks once it pauses; what cannot be loaded is not shown.
  await page.locator('#hub-search').pressSequentially('tiny', { delay: 40 });
  await page.locator('#hub-found').waitFor();
  const ids = await page.locator('#hub-found strong').allInnerTexts();
  assert.deepEqual(ids, ['tiny/llama', 'tiny/large', 'tiny/gated', 'tiny/broken', 'tiny/quants']);
  assert.equal(hub.asked.length, 1, 'one question for four letters');
  const shown = await opened.text('#hub-found');
  for (const part of ['100.0 k parameters', 'apache-2.0', 'gated', 'GGUF', '1,000 downloads', 'licence not stated']) assert.ok(shown.includes(part), part);
  await opened.accessible('hub');
  await opened.shot('hub');

  // A connection that is cut: what came is kept, said, and gone on with.
  let isCut = true;
  hub.trouble = (host, path, _, body) => {
    if (host !== 'downloads' || !isCut || !path.endsWith('/model.safetensors')) return null;
    return hub.served.filter(({ path }) => path.endsWith('/model.safetensors')).length > 1 ? { status: 503 } : { body, cutAfter: CUT };
  };
  await page.getByRole('listitem').filter({ hasText: 'tiny/llama' }).getByRole('button').click();
  await failure(/50\.0 kB are kept, try again to go on from there/);
  assert.equal((await opened.kept('models'))['models/tiny--llama/model.safetensors.partial'], CUT);
  isCut = false;
  await page.getByRole('button', { name: 'Go on with tiny/llama' }).click();
  await card('tiny/llama');
  assert.ok(hub.served.some(({ path, range }) => path.endsWith('/model.safetensors') && range === `bytes=${CUT}-`), 'the rest alone is asked for');
  assert.match(await opened.text('#model-card'), /Licence\s+apache-2\.0/);
  assert.ok(!Object.keys(await opened.kept('models')).some(key => key.endsWith('.partial')), 'nothing half done is left');
  await opened.shot('hub-model');

  // It is here now: the hub is asked which commit it is, or is gone, and no file is fetched again.
  const nServed = hub.served.length;
  hub.trouble = host => (host === 'hub' ? { status: 429 } : null);
  await openNamed('tiny/llama');
  await card('tiny/llama');
  await wait();
  assert.equal(hub.served.length, nServed);
  await openNamed('tiny/large');
  await failure(/429.*wait a few minutes/s);

  // A connection that stalls: nothing comes, nothing breaks, and a stop is heard all the same.
  const isWeights = path => path.endsWith('large/model.safetensors');
  hub.trouble = (host, path, _, body) => (host === 'downloads' && isWeights(path) ? { body, stallAfter: CUT } : null);
  await openNamed('tiny/large');
  const deadline = Date.now() + 20_000;
  while (!hub.served.some(({ path }) => isWeights(path)) && Date.now() < deadline) await page.waitForTimeout(50);
  // What was sent is to arrive.
  await page.waitForTimeout(500);
  await page.click('#stop-fetch');
  await opened.free(5_000);
  assert.equal(await page.locator('#failure').count(), 0, 'who stops is told of no failure');
  assert.equal((await opened.kept('models'))['models/tiny--large/model.safetensors.partial'], CUT, 'what came is kept');
  hub.trouble = () => null;

  // Refused: what does not exist, what cannot be loaded (before its weights come), what is not what was published.
  await openNamed('tiny/nothing');
  await failure(/404.*expected a model that exists; check owner, name and revision/s);
  await openNamed('tiny/strange');
  await failure(/model_type `bert`.*llama/s);
  assert.ok(!hub.served.some(({ path }) => /strange.*safetensors/.test(path)));
  await openNamed('tiny/broken');
  await failure(/checksum \(SHA-256\) is .*what came was discarded/s);
  const left = Object.keys(await opened.kept('models'));
  assert.ok(!left.some(key => /strange|broken\/model/.test(key)), left.join());
  await page.getByRole('button', { name: 'Delete tiny/broken' }).click();
  await page.getByRole('button', { name: 'Delete tiny/broken for good' }).click();
  await wait();

  // Gated: the token goes to the hub, to nobody else, and nowhere on its own.
  await openNamed('tiny/gated');
  await failure(/401.*Access to this model is restricted.*access token entered here/s);
  await page.locator('#hub-access summary').click();
  await page.locator('#hub-token').fill(TOKEN);
  await page.locator('#hub-token').blur();
  assert.equal(await page.evaluate(() => localStorage.getItem('hub-token')), null);
  const before = hub.served.length;
  await openNamed('tiny/gated');
  await card('tiny/gated');
  assert.ok(hub.asked.at(-1).authorization === `Bearer ${TOKEN}` && hub.served.length > before);
  assert.ok(hub.served.every(({ authorization }) => authorization === undefined), 'downloads come without the token');
  await page.locator('#hub-keep').check();
  assert.equal(await page.evaluate(() => localStorage.getItem('hub-token')), TOKEN);
  await page.locator('#hub-keep').uncheck();
  assert.equal(await page.evaluate(() => localStorage.getItem('hub-token')), null);

  // Several GGUF files: one is chosen.
  await openNamed('tiny/quants');
  await page.locator('#hub-files').waitFor();
  assert.deepEqual(await page.locator('#hub-files strong').allInnerTexts(), ['a.Q8_0.gguf', 'b.Q8_0.gguf']);
  await opened.shot('hub-files');
  await page.locator('#hub-files button').nth(1).click();
  await card('tiny/quants:b.Q8_0.gguf');
  assert.ok(!hub.served.some(({ path }) => path.includes('a.Q8_0')));
  for (const name of ['tiny/llama', 'tiny/gated', 'tiny/quants:b.Q8_0']) {
    await page.locator('#stored-models strong', { hasText: name }).first().waitFor({ timeout: 10_000 });
  }

  // Refusals and breaks were asked for.
  opened.faults = opened.faults.filter(fault => !/Failed to load resource|ERR_CONTENT_LENGTH_MISMATCH|ERR_INCOMPLETE|ERR_ABORTED/.test(fault));
  return `found, broken off and gone on with, refused, opened with a token, chosen: ${hub.asked.length} questions to ${new URL(endpoint).host}`;
}, hubPlaces);
