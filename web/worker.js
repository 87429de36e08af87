// Starts the worker's wasm and tells the page how far its download is.
import init from './attune-worker.js';

const tell = reply => postMessage([JSON.stringify(reply)]);

async function load() {
  const response = await fetch(new URL('./attune-worker_bg.wasm', import.meta.url));
  if (!response.ok) throw new Error(`the worker's code could not be fetched: status ${response.status}`);
  // A compressed answer's length says nothing about what is read; the server names the real one beside it.
  const total = Number(response.headers.get('x-uncompressed-length') ?? (response.headers.has('content-encoding') ? 0 : response.headers.get('content-length')));
  let done = 0;
  const count = new TransformStream({
    transform(chunk, out) {
      done += chunk.length;
      tell({ reply: 'loading', done, total });
      out.enqueue(chunk);
    },
  });
  const headers = { 'content-type': 'application/wasm' };
  await init({ module_or_path: new Response(response.body.pipeThrough(count), { headers }) });
}

load().catch(error => tell({ reply: 'failed', message: String(error), is_stop: false }));
