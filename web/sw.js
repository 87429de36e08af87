// Keeps the page's own files, so that it opens without a network after the first visit. `cargo xtask dist` writes
// the version and the list; a file outside the list, such as a sample, is asked for as ever.
const VERSION = '/*version*/';
// Names and what is in them, as the integrity of a request.
const FILES = [/*files*/];
// Only one of the workers' codes is of use to a visitor: it is kept once it was asked for.
const LATER = /worker.*\.wasm$/;

// Caches are the whole origin's: others may lie beside this page, attune under another path too.
const PREFIX = `attune ${registration.scope} `;
const CACHE = PREFIX + VERSION;
const INDEX = 'index.html';

// The page is asked for by its folder's address. Many hosts redirect the file's own to it, and what was redirected
// must not answer a visit.
const address = file => new URL(file === INDEX ? './' : file, registration.scope).href;
const digests = new Map(FILES.map(([file, digest]) => [address(file), digest]));

// Past the browser's HTTP cache, and this version's bytes or none.
const request = wanted => new Request(wanted, { cache: 'no-cache', integrity: digests.get(wanted) });

const earlier = async () => (await caches.keys()).filter(name => name.startsWith(PREFIX) && name !== CACHE);

addEventListener('install', event => event.waitUntil((async () => {
  const had = new Set();
  for (const name of await earlier()) {
    for (const { url } of await (await caches.open(name)).keys()) had.add(url);
  }
  const cache = await caches.open(CACHE);
  // What opened without a network still does after this version took over.
  await cache.addAll([...digests.keys()].filter(wanted => !LATER.test(wanted) || had.has(wanted)).map(request));
})()));

addEventListener('activate', event => event.waitUntil((async () => {
  for (const name of await earlier()) await caches.delete(name);
  await clients.claim();
})()));

addEventListener('message', event => {
  // The page says so before it begins anything with an older version.
  if (event.data === 'take over') event.waitUntil(takeOver());
  // The code of the first visit's worker was fetched before there was a service worker.
  if (digests.has(event.data?.keep)) event.waitUntil(kept(event.data.keep));
});

// Another tab may be at work with the older version: the newer one waits until it is closed.
async function takeOver() {
  const windows = await clients.matchAll({ type: 'window', includeUncontrolled: true });
  if (windows.filter(({ url }) => url.startsWith(registration.scope)).length < 2) await skipWaiting();
}

addEventListener('fetch', event => {
  if (event.request.method !== 'GET') return;
  const [plain] = event.request.url.split(/[?#]/);
  const wanted = plain === registration.scope + INDEX ? address(INDEX) : plain;
  if (digests.has(wanted)) event.respondWith(kept(wanted));
});

async function kept(wanted) {
  const cache = await caches.open(CACHE);
  const found = await cache.match(wanted);
  if (found) return found;
  let answer;
  try {
    answer = await fetch(request(wanted));
  } catch (error) {
    // No network, or the host has another version by now: parts of two are never mixed.
    registration.update().catch(() => {});
    throw error;
  }
  // A file that cannot be kept, for want of room, is still of use now.
  if (answer.ok) await cache.put(wanted, answer.clone()).catch(() => {});
  return answer;
}
