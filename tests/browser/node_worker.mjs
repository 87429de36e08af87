// The page's worker without a page: the same wasm in Node.js, on Dawn, the WebGPU of Chromium. It runs on a machine's
// GPU where no browser can, and where there is none on SwiftShader.
//
// ATTUNE_DIST    folder with the built page
// ATTUNE_WEBGPU  the folder of npm's `webgpu`

import { MessageChannel as NodeChannel } from 'node:worker_threads';
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { ATTUNE_DIST: dist, ATTUNE_WEBGPU: dawn } = process.env;

/** Puts Dawn where a browser has its WebGPU, and returns its adapter's name. */
export async function webgpu() {
  const { create, globals } = await import(pathToFileURL(join(dawn, 'index.js')));
  Object.assign(globalThis, globals);
  const storage = { getDirectory: async () => new Folder(''), estimate: async () => ({}) };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: create([]), storage, userAgent: 'Node.js' }, configurable: true });
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('Dawn finds no adapter');
  const { vendor, architecture, description } = adapter.info;
  return [vendor, architecture, description].filter(Boolean).join(' ');
}

/** The worker, begun; `files` are what its private file system holds, by path. */
export class NodeWorker {
  static async start(files) {
    for (const [path, bytes] of Object.entries(files)) stored.set(path, new Uint8Array(bytes));
    const worker = new NodeWorker();
    worker.heard = [];
    worker.listeners = [];
    globalThis.self = globalThis;
    // What the wasm looks for before it asks for a GPU.
    globalThis.WorkerGlobalScope = class { static [Symbol.hasInstance](it) { return it === globalThis; } };
    globalThis.location = { href: 'http://localhost/' };
    globalThis.gpuName = await webgpu();
    globalThis.postMessage = message => worker.hear(JSON.parse(message[0]));
    globalThis.MessageChannel = Channel;
    // As a module, whatever folder the page lies in.
    const code = mkdtempSync(join(tmpdir(), 'attune-node-'));
    cpSync(join(dist, 'attune-worker-gpu.js'), join(code, 'worker.mjs'));
    const { default: init } = await import(pathToFileURL(join(code, 'worker.mjs')));
    await init({ module_or_path: readFileSync(join(dist, 'attune-worker-gpu_bg.wasm')) });
    const ready = await worker.until(({ reply }) => reply === 'ready');
    if (ready.device.name !== 'webgpu') throw new Error(`the worker computes on ${ready.device.name}: ${ready.device.reason}`);
    return worker;
  }

  hear(reply) {
    this.heard.push(reply);
    for (const listener of [...this.listeners]) listener(reply);
  }

  until(wanted) {
    const failed = this.heard.find(({ reply }) => reply === 'failed');
    if (failed) return Promise.reject(new Error(failed.message));
    const earlier = this.heard.find(wanted);
    if (earlier) return Promise.resolve(earlier);
    return new Promise((resolve, reject) => {
      const listener = reply => {
        const isFailure = reply.reply === 'failed';
        if (!isFailure && !wanted(reply)) return;
        this.listeners.splice(this.listeners.indexOf(listener), 1);
        if (isFailure) reject(new Error(reply.message));
        else resolve(reply);
      };
      this.listeners.push(listener);
    });
  }

  /** Has a command done and returns the updates that it was answered with. */
  async work(command) {
    this.heard = [];
    globalThis.onmessage({ data: [JSON.stringify({ request: 'work', ...command })] });
    await this.until(({ reply }) => reply === 'done');
    return this.heard.filter(({ reply }) => reply === 'update');
  }
}

/** Node's own keeps the process alive, and its ports call listeners otherwise. */
class Channel {
  constructor() {
    const { port1, port2 } = new NodeChannel();
    port2.on('message', data => this.port2.onmessage?.({ data }));
    this.port1 = { postMessage: data => port1.postMessage(data) };
    this.port2 = { onmessage: null };
  }
}

const stored = new Map();
const notFound = name => Object.assign(new Error(`${name} is not there`), { name: 'NotFoundError' });

/** The private file system's folder at `path`, in memory: as much of it as the worker uses. */
class Folder {
  constructor(path) {
    this.path = path;
    this.name = path.split('/').at(-2) ?? '';
    this.kind = 'directory';
  }

  async getDirectoryHandle(name, { create } = {}) {
    const path = `${this.path}${name}/`;
    if (!create && ![...stored.keys()].some(key => key.startsWith(path))) throw notFound(path);
    return new Folder(path);
  }

  async getFileHandle(name, { create } = {}) {
    const path = this.path + name;
    if (!stored.has(path)) {
      if (!create) throw notFound(path);
      stored.set(path, new Uint8Array());
    }
    return new Stored(path);
  }

  async removeEntry(name) {
    if (!stored.delete(this.path + name)) throw notFound(this.path + name);
  }

  async *values() {
    const inside = [...stored.keys()].filter(key => key.startsWith(this.path)).map(key => key.slice(this.path.length).split('/'));
    for (const folder of new Set(inside.filter(parts => parts.length > 1).map(([name]) => name))) yield new Folder(`${this.path}${folder}/`);
    for (const [name] of inside.filter(parts => parts.length === 1)) yield new Stored(this.path + name);
  }
}

class Stored {
  constructor(path) {
    this.path = path;
    this.name = path.split('/').at(-1);
    this.kind = 'file';
  }

  async getFile() {
    if (!stored.has(this.path)) throw notFound(this.path);
    return new File([stored.get(this.path)], this.name);
  }

  async createSyncAccessHandle() {
    const { path } = this;
    return {
      getSize: () => stored.get(path).length,
      truncate: size => stored.set(path, stored.get(path).slice(0, size)),
      write: (bytes, { at = 0 } = {}) => {
        const before = stored.get(path);
        const after = new Uint8Array(Math.max(before.length, at + bytes.length));
        after.set(before);
        after.set(bytes, at);
        stored.set(path, after);
        return bytes.length;
      },
      flush: () => {},
      close: () => {},
    };
  }

  async move(folder, name) {
    stored.set(folder.path + name, stored.get(this.path));
    stored.delete(this.path);
  }
}
