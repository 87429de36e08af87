// A model hub on this machine: what the real one answers about models, and a second host for their files, to which
// it redirects. Both keep what they were asked.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fixture, skip } from './page.mjs';

export const { ATTUNE_HUB_PAGE: hubPage, ATTUNE_HUB: endpoint, ATTUNE_HUB_DOWNLOADS: downloads } = process.env;
export const hubPlaces = { at: hubPage, hosts: [endpoint, downloads] };

const commit = 'c'.repeat(40);
// A hub lets any page read its answers.
const open = {
  'access-control-allow-origin': '*',
  'access-control-allow-headers': 'authorization, range',
  'access-control-expose-headers': 'content-range, etag',
};

/** Files of a folder by name. */
export const folder = path => Object.fromEntries(readdirSync(path).map(name => [name, readFileSync(join(path, name))]));

/** The tiny Llama of the fixtures with its tokenizer. */
export function tinyFiles() {
  const { 'tokenizer.json': tokenizer, 'tokenizer_config.json': settings } = folder(fixture('tokenizer'));
  const files = { ...folder(fixture('models/llama')), 'tokenizer.json': tokenizer, 'tokenizer_config.json': settings };
  return Object.fromEntries(Object.entries(files).filter(([name]) => !name.startsWith('golden')));
}

/** Starts both hosts. `repositories` are by id; each has `files` by name and what a search says of it. */
export async function startHub(repositories) {
  if (!endpoint) skip('ATTUNE_HUB is not set: `cargo xtask test` names a hub on this machine');
  const hub = { repositories, asked: [], served: [], trouble: () => null };
  await listen(endpoint, (request, url) => {
    hub.asked.push({ path: url.pathname + url.search, ...request.headers });
    return hub.trouble('hub', url.pathname, request) ?? answer(hub, url, request);
  });
  await listen(downloads, (request, url) => {
    hub.served.push({ path: url.pathname, ...request.headers });
    const [, owner, name, ...file] = decodeURIComponent(url.pathname).split('/');
    const repository = repositories[`${owner}/${name}`];
    const body = { ...repository.files, ...repository.tampered }[file.join('/')];
    return hub.trouble('downloads', url.pathname, request, body) ?? { body, isUnsized: repository.isUnsized };
  });
  return hub;
}

function answer(hub, url, { headers }) {
  if (url.pathname === '/api/models') {
    const text = url.searchParams.get('search');
    const found = Object.entries(hub.repositories).filter(([id]) => id.includes(text));
    return json(found.map(([id, { about }]) => ({ id, downloads: 1000, likes: 7, ...about })));
  }
  const [, id, rest] = /^\/(?:api\/models\/)?([^/]+\/[^/]+)\/(.*)$/.exec(decodeURIComponent(url.pathname)) ?? [];
  const repository = hub.repositories[id];
  if (!repository) return { status: 404, ...json({ error: 'Repository not found' }) };
  // Everybody may see what a gated model is made of, and not everybody may have it.
  if (rest.startsWith('resolve/') && repository.token && headers.authorization !== `Bearer ${repository.token}`) {
    return { status: 401, ...json({ error: 'Access to this model is restricted' }) };
  }
  if (rest === 'revision/main') {
    const siblings = Object.entries(repository.files).map(([rfilename, bytes]) => sibling(rfilename, bytes, repository));
    return json({ id, sha: commit, siblings, tags: repository.about.tags });
  }
  const file = rest.replace(`resolve/${commit}/`, '');
  return { status: 302, headers: { location: `${downloads}/${id}/${encodeURIComponent(file)}` } };
}

function sibling(rfilename, bytes, { isUnsized }) {
  if (isUnsized) return { rfilename };
  const size = bytes.length;
  if (/\.(safetensors|gguf)$/.test(rfilename)) {
    return { rfilename, size, lfs: { size, sha256: createHash('sha256').update(bytes).digest('hex') } };
  }
  return { rfilename, size, blobId: createHash('sha1').update(`blob ${size}\0`).update(bytes).digest('hex') };
}

const json = value => ({ body: Buffer.from(JSON.stringify(value)), headers: { 'content-type': 'application/json' } });

async function listen(address, respond) {
  const server = createServer((request, response) => {
    if (request.method === 'OPTIONS') return response.writeHead(204, open).end();
    const { status = 200, headers = {}, body = Buffer.alloc(0), cutAfter, stallAfter, isUnsized } = respond(request, new URL(request.url, address));
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const part = body.subarray(from);
    const range = from && status === 200 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {};
    const length = isUnsized ? {} : { 'content-length': part.length };
    response.writeHead(from && status === 200 ? 206 : status, { ...open, ...headers, ...range, ...length });
    if (stallAfter !== undefined) return response.write(part.subarray(0, stallAfter));
    if (cutAfter === undefined) return response.end(part);
    // What was written arrives; what was promised does not.
    response.write(part.subarray(0, cutAfter), () => setTimeout(() => response.socket.end(), 100));
  });
  const { port, hostname } = new URL(address);
  await new Promise(ready => server.listen(Number(port), hostname, ready));
  // A test that is done does not wait for it.
  server.unref();
}
