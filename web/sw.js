// Keeps the page's own files, so that it opens without a network after the first visit. `cargo xtask dist` writes
// the version and the list; a file outside the list, such as a sample, is asked for as ever.
const VERSION = '/*version*/';
const FILES = [/*files*/];
// Only one of the workers' codes is of use to a visitor: it is kept once it was asked for.
const LATER = /worker.*\.wasm$/;

const address = file => new URL(file, registration.scope).href;
const listed = new Set(FILES.map(address));

addEventListener('install', event => event.waitUntil((async () => {
  const cache = await caches.open(VERSION);
  // Past the browser's HTTP cache: a version is whole or not at all.
  await cache.addAll(FILES.filter(file => !LATER.test(file)).map(file => new Request(address(file), { cache: 'no-cache' })));
})()));

addEventListener('activate', event => event.waitUntil((async () => {
  for (const name of await caches.keys()) {
    if (name !== VERSION) await caches.delete(name);
  }
  await clients.claim();
})()));

addEventListener('message', event => {
  // The page says so before it begins anything with an older version.
  if (event.data === 'take over') skipWaiting();
  // The code of the first visit's worker was fetched before there was a service worker.
  if (event.data?.keep) event.waitUntil(kept(address(event.data.keep), new Request(address(event.data.keep), { cache: 'no-cache' })));
});

addEventListener('fetch', event => {
  const { request } = event;
  if (request.method !== 'GET') return;
  const wanted = request.mode === 'navigate' ? address('index.html') : request.url.split(/[?#]/)[0];
  if (listed.has(wanted)) event.respondWith(kept(wanted, request));
});

async function kept(wanted, request) {
  const cache = await caches.open(VERSION);
  const found = await cache.match(wanted);
  if (found) return found;
  const answer = await fetch(request);
  // A file that cannot be kept, for want of room, is still of use now.
  if (answer.ok) await cache.put(wanted, answer.clone()).catch(() => {});
  return answer;
}
