// Starts the worker's wasm and tells the page how far its download is.
import init from './attune-worker.js';

const tell = reply => postMessage([JSON.stringify(reply)]);

// One page at a time: two would write to the same runs. A page that was just closed needs a moment to let go.
async function alone() {
  await new Promise((held, refused) => {
    const kept = () => { held(); return new Promise(() => {}); };
    navigator.locks.request('attune', { signal: AbortSignal.timeout(3000) }, kept).catch(refused);
  }).catch(() => { throw new Error('attune is open in another tab of this browser; go on there, or close it and reload this one'); });
}

async function load() {
  await alone();
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
  new BroadcastChannel('attune-code').postMessage('attune-worker_bg.wasm');
}

load().catch(error => tell({ reply: 'failed', message: error.message, is_stop: false }));
