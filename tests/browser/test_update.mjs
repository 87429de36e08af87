// A host that puts a newer version of the page up: a tab at work keeps the one it has, the next visit takes the newer
// one whole, and it opens without the host. Parts of two versions are never mixed.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { filesOf, served, test } from './page.mjs';

const TABLE = 'zh-Hans.json';
const WASM = 'attune-worker-relaxed_bg.wasm';

// The page's host as most are: the page's own file is redirected to its folder.
const host = { changed: {}, slowMs: 0, isGone: false };
const server = createServer((request, response) => answer(request, response).catch(() => response.destroy()));
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
const at = `http://127.0.0.1:${server.address().port}/`;

async function answer({ url }, response) {
  const name = url.slice(1).split('?')[0];
  if (name === 'index.html') return response.writeHead(301, { location: './' }).end();
  if (name === 'sw.js' && host.isGone) return response.writeHead(404).end();
  if (name === WASM) await new Promise(resolve => setTimeout(resolve, host.slowMs));
  const original = await fetch(served(name));
  const body = name in host.changed ? host.changed[name] : Buffer.from(await original.arrayBuffer());
  const headers = Object.fromEntries(['content-type', 'content-security-policy'].map(key => [key, original.headers.get(key)]));
  for (const key of Object.keys(headers)) if (headers[key] === null) delete headers[key];
  response.writeHead(original.status, { ...headers, 'cache-control': 'no-cache' }).end(body);
}

/** Another version on the host, as `cargo xtask dist` would write it: one file differs. */
async function renew() {
  const table = `${await (await fetch(served(TABLE))).text()}\n`;
  const digest = createHash('sha256').update(table).digest('base64');
  const code = await (await fetch(served('sw.js'))).text();
  const listed = code.replace(new RegExp(`("${TABLE}","sha256-)[^"]*`), `$1${digest}`);
  assert.notEqual(listed, code);
  host.changed = { [TABLE]: table, 'sw.js': listed.replace(/(const VERSION = ')[^']*/, '$1the-newer') };
}

const versions = page => page.evaluate(async () => (await caches.keys()).map(name => name.split(' ').at(-1)));
const has = async file => Boolean(await caches.match(new URL(file, location.href).href));
const isWaiting = () => navigator.serviceWorker.getRegistration().then(({ waiting }) => Boolean(waiting));

await test(async opened => {
  const { page } = opened;
  await opened.until(has, WASM);
  const [older] = await versions(page);
  assert.notEqual(older, 'the-newer');
  // Other pages of this origin have caches too.
  await page.evaluate(() => caches.open('another page'));

  // A second tab on the way does not change the version under the first.
  await renew();
  const other = await page.context().newPage();
  await other.goto(`${at}?device=cpu`);
  await opened.until(isWaiting);
  await other.reload();
  await other.waitForSelector('#failure', { timeout: 20_000 });
  assert.ok(await page.evaluate(isWaiting), 'the newer version waits');
  // What is not the page is the host's.
  assert.equal((await other.goto(`${at}samples/none`)).status(), 404);
  await other.close();

  // The newer version takes over as the older one's last page goes, or the page begins again with it.
  await page.addInitScript(file => { globalThis.table = fetch(`./${file}`).then(answer => answer.text()); }, TABLE);
  await page.goto(`${at}?device=cpu`);
  await opened.until(async newer => (await table) === newer, host.changed[TABLE]);
  await opened.until(async () => (await caches.keys()).map(name => name.split(' ').at(-1)).sort().join() === 'page,the-newer');
  await opened.ready();
  assert.ok(await page.evaluate(has, WASM), 'the worker of the older version is there in the newer one');
  await page.context().setOffline(true);
  await page.goto(`${at}index.html?device=cpu`);
  await opened.ready();
  await page.context().setOffline(false);

  // A worker whose code is lost here and newer there is refused; a slow one is waited for.
  const lose = () => page.evaluate(async file => {
    for (const name of await caches.keys()) await (await caches.open(name)).delete(new URL(file, location.href.split('?')[0]).href);
  }, WASM);
  await lose();
  host.changed[WASM] = Buffer.from('newer');
  await page.goto(`${at}?device=cpu`);
  await page.waitForSelector('#failure', { timeout: 20_000 });
  assert.match(await opened.text('#failure'), /newer version of this page.*reload/);
  delete host.changed[WASM];
  host.slowMs = 3000;
  await page.goto(`${at}?device=cpu`);
  await opened.ready();
  await page.setInputFiles('#model-files', filesOf(opened.tinyModel()));
  await page.waitForSelector('#model-card', { timeout: 30_000 });

  // A host without the service worker gets its visitors back.
  host.isGone = true;
  await page.goto(`${at}?device=cpu`);
  await opened.until(async () => !(await navigator.serviceWorker.getRegistration()));
  opened.faults = opened.faults.filter(fault => !/samples|ERR_INTERNET_DISCONNECTED|_bg\.wasm|Failed to load resource|404/.test(fault));
  return 'the newer version waited for a tab at work, came whole and opened without its host';
}, { at }).finally(() => server.close());
