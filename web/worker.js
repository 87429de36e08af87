// Chooses where to compute, starts the wasm that can, and tells the page how far its download is.
import { hasGpu } from './built.js';

const tell = reply => postMessage([JSON.stringify(reply)]);

// The page's wish is this worker's name. An address would lose it: a service worker answers with the plain file, whose
// address a worker then takes for its own.
const asked = new URLSearchParams(self.name);

// What the page says before the wasm listens; it hears it then.
const early = [];
const hold = ({ data }) => early.push(data);
onmessage = hold;

// What a promise ends with is heard by nobody; a fault that nobody hears would look like work without end.
addEventListener('unhandledrejection', ({ reason }) => setTimeout(() => { throw reason; }));

// One page at a time: two would write to the same runs. A page that was just closed needs a moment to let go.
async function alone() {
  await new Promise((held, refused) => {
    const kept = () => { held(); return new Promise(() => {}); };
    navigator.locks.request('attune', { signal: AbortSignal.timeout(3000) }, kept).catch(refused);
  }).catch(() => { throw new Error('attune is open in another tab of this browser; go on there, or close it and start the worker again'); });
}

// Why the GPU is left alone; undefined where it is to be tried.
async function whyNoGpu() {
  if (asked.get('device') === 'cpu') return asked.get('because') ?? 'the CPU was asked for';
  if (!hasGpu) return 'this page was built without WebGPU';
  if (!navigator.gpu) return 'this browser has no WebGPU';
  // As the worker will ask for it.
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return 'this browser has WebGPU but gives no GPU';
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info ?? {};
  globalThis.gpuName = [vendor, architecture, description].filter(Boolean).join(' ');
  const isProgram = isFallbackAdapter || adapter.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|basic render/i.test(gpuName);
  if (isProgram && asked.get('device') !== 'webgpu') return 'the only GPU here is a program on the CPU, slower than the CPU itself';
}

// A function that multiplies and adds in one instruction (relaxed SIMD): what is valid, the engine has.
const RELAXED = [
  0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // a module
  1, 5, 1, 0x60, 0, 1, 0x7b, // of type () -> v128
  3, 2, 1, 0,
  10, 19, 1, 17, 0, ...[0x41, 0, 0xfd, 0x0f], ...[0x41, 0, 0xfd, 0x0f], ...[0x41, 0, 0xfd, 0x0f], 0xfd, 0x85, 0x02, 0x0b,
];
const hasRelaxed = () => WebAssembly.validate(new Uint8Array(RELAXED));

async function load() {
  await alone();
  let reason = await whyNoGpu().catch(error => `the browser could not be asked for its GPU: ${error.message}`);
  if (!reason) {
    try {
      return await start('attune-worker-gpu');
    } catch (error) {
      reason = `the code for the GPU could not be started: ${error.message}`;
      onmessage = hold;
    }
  }
  // Read by the worker's code.
  globalThis.whyNoGpu = reason;
  await start(hasRelaxed() ? 'attune-worker-relaxed' : 'attune-worker');
}

async function start(name) {
  const { default: init } = await import(`./${name}.js`);
  const wasm = new URL(`./${name}_bg.wasm`, import.meta.url).href;
  const response = await fetch(wasm).catch(() => {
    throw new Error("the worker's code could not be fetched: its host does not answer, or has a newer version of this page; once it answers, reload the page");
  });
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
    flush: () => tell({ reply: 'loading', done, total: done }),
  });
  const headers = { 'content-type': 'application/wasm' };
  await init({ module_or_path: new Response(response.body.pipeThrough(count), { headers }) });
  // The wasm began to listen before `init` ended, and nothing was heard since.
  for (const data of early.splice(0)) dispatchEvent(new MessageEvent('message', { data }));
  new BroadcastChannel('attune-code').postMessage(wasm);
}

load().catch(error => tell({ reply: 'failed', message: error.message, is_stop: false }));
