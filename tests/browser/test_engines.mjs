// An engine without relaxed SIMD is given code that it can run, and learns the same.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { served, test } from './page.mjs';

// The host's pages in a browser that says no when it is asked.
const asked = [];
const server = createServer(async ({ url }, response) => {
  const name = url.slice(1).split('?')[0];
  asked.push(name);
  const original = await fetch(served(name));
  let body = Buffer.from(await original.arrayBuffer());
  if (name === 'worker.js') {
    const code = body.toString().replace('WebAssembly.validate(', '(() => false)(');
    assert.notEqual(code, body.toString());
    body = code;
  }
  // Its service worker would refuse the changed file.
  if (name === 'sw.js') return response.writeHead(404).end();
  response.writeHead(original.status, { 'content-type': original.headers.get('content-type') ?? 'application/octet-stream' }).end(body);
});
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));

await test(async opened => {
  opened.faults = opened.faults.filter(fault => !/404/.test(fault));
  assert.match(await opened.text('#device'), /with SIMD/);
  const codes = asked.filter(name => name.endsWith('.wasm') && name.includes('worker'));
  assert.deepEqual(codes, ['attune-worker_bg.wasm']);
  const { page } = opened;
  const model = opened.tinyModel();
  const rows = opened.skies(16, ['blue', 'grey']);
  await opened.bring(model, rows);
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': 12, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4 });
  await opened.view('Train');
  await page.click('#start');
  await page.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  const { runFile, losses } = await opened.takeFigures();
  const apart = opened.repeat(runFile, model, rows, losses);
  opened.faults = opened.faults.filter(fault => !/404/.test(fault));
  return `without relaxed SIMD at most ${apart.toExponential(1)} from the command line`;
}, { at: `http://127.0.0.1:${server.address().port}/` });
server.close();
