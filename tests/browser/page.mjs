// What every test of the page needs: a browser on a profile of its own, the page in it, and hands.
//
// ATTUNE_PAGE     address of the served page
// ATTUNE_BIN      the command line
// ATTUNE_CHROMIUM the browser
// ATTUNE_PYTHON   a Python with torch, transformers and peft; nothing is asked of PEFT without it
// ATTUNE_SHOTS    folder for screenshots of every view; none are made without it
//
// A test ends with one line of result. It exits with 0, with 1 where it failed, and with 77 where it could not be
// made on this machine.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

// Found through NODE_PATH, which `import` does not look at.
const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');

const { ATTUNE_PAGE: address, ATTUNE_BIN: attune, ATTUNE_CHROMIUM: browserPath, ATTUNE_PYTHON: python, ATTUNE_SHOTS: shots } = process.env;
const fixtures = new URL('../fixtures/', import.meta.url).pathname;
const SKIPPED = 77;
// A longer task on the main thread is felt.
const LONGEST_TASK_MS = 100;

class Skipped extends Error {}

/** Ends the test as one that this machine cannot make. */
export const skip = reason => { throw new Skipped(reason); };

// A GPU that is a program on the CPU: every machine has it, and it computes the same.
const SOFTWARE_GPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/**
 * Opens the page on the CPU, runs `body` with it and prints the line that it returns. Any fault of the page fails it.
 * `at` is another address than that of the served page, `hosts` are origins that it may ask besides its own.
 */
export const test = (body, options = {}) => testOn('cpu', body, options);

/**
 * The same on a GPU that is a program; the test is skipped where page or browser have none. `prepare` runs in each
 * worker while its code is still on the way.
 */
export const testOnGpu = (body, prepare) => testOn('webgpu', body, { prepare });

async function testOn(device, body, { at = address, hosts = [], prepare }) {
  const work = mkdtempSync(join(tmpdir(), 'attune-page-'));
  const context = await chromium.launchPersistentContext(join(work, 'profile'), {
    executablePath: browserPath,
    headless: true,
    acceptDownloads: true,
    viewport: { width: 1280, height: 800 },
    args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', ...(device === 'webgpu' ? SOFTWARE_GPU : [])],
  });
  const opened = new Opened(await context.newPage(), work, device, at, hosts);
  if (prepare) opened.page.on('worker', worker => worker.evaluate(prepare).catch(() => {}));
  try {
    await opened.start();
    const result = await body(opened);
    assert.deepEqual(opened.faults, []);
    console.log(result);
  } catch (error) {
    if (error instanceof Skipped) {
      console.log(error.message);
      process.exitCode = SKIPPED;
    } else {
      console.error(error);
      const told = await opened.page.locator('#failure').allInnerTexts().catch(() => []);
      console.error('the page says:', told, 'faults:', opened.faults);
      if (shots) await opened.page.screenshot({ path: join(shots, 'failure.png'), fullPage: true }).catch(() => {});
      process.exitCode = 1;
    }
  } finally {
    await context.close();
    rmSync(work, { recursive: true, force: true });
  }
}

/** The open page. */
class Opened {
  constructor(page, work, device, at, hosts) {
    this.at = at;
    this.hosts = [new URL(at).origin, ...hosts];
    /** A folder that goes when the test ends. */
    this.work = work;
    this.device = device;
    this.faults = [];
    this.axe = '';
    this.follow(page);
  }

  /** Makes `page` the open one. */
  follow(page) {
    this.page = page;
    page.on('console', message => message.type() === 'error' && this.faults.push(`console: ${message.text()}`));
    page.on('pageerror', error => this.faults.push(`page: ${error}`));
    page.on('requestfailed', request => this.faults.push(`request: ${request.url()} ${request.failure()?.errorText}`));
    page.on('request', request => {
      const { origin, protocol } = new URL(request.url());
      if (protocol.startsWith('http') && !this.hosts.includes(origin)) this.faults.push(`left the origin: ${request.url()}`);
    });
  }

  async start() {
    await this.page.addInitScript(() => {
      globalThis.longTasks = [];
      const note = list => list.getEntries().forEach(({ startTime, duration }) => longTasks.push({ startTime, duration }));
      new PerformanceObserver(note).observe({ type: 'longtask', buffered: true });
    });
    if (this.device === 'webgpu' && !(await (await fetch(served('built.js'))).text()).includes('true')) skip('the page was built without WebGPU');
    await this.page.goto(`${this.at}?device=${this.device}`);
    await this.ready();
  }

  /** Waits until the worker can be asked. A GPU's first answers, those of its self-test, take their time. */
  async ready() {
    await this.page.waitForFunction(() => /^(CPU|WebGPU)/.test(document.querySelector('#device')?.textContent), null, { timeout: 180_000 });
    const said = await this.page.locator('.device').innerText();
    if (this.device === 'webgpu' && /no WebGPU|gives no GPU/.test(said)) skip('this browser gives no GPU');
    assert.match(said, this.device === 'webgpu' ? /^WebGPU/ : /^CPU/);
  }

  /** Runs `body` in the worker, as the debugger can. A worker that ends does not answer. */
  inWorker(body) {
    const [worker] = this.page.workers().slice(-1);
    return Promise.race([worker.evaluate(body), new Promise(resolve => setTimeout(resolve, 2000))]);
  }

  /** After the worker died: what the page says of it. Starts another, goes back to the run that was cut off and on. */
  async goOn() {
    await this.page.waitForSelector('#restart', { timeout: 30_000 });
    const said = await this.text('#failure');
    await this.page.click('#restart');
    await this.ready();
    await this.page.waitForSelector('#unfinished', { timeout: 20_000 });
    assert.equal(await this.page.locator('#failure').count(), 0);
    await this.page.click('#go-back');
    await this.page.click('#resume', { timeout: 60_000 });
    return said;
  }

  view(name) {
    const named = this.page.locator('.name', { hasText: new RegExp(`^${name}$`) });
    return this.page.getByRole('navigation').getByRole('button').filter({ has: named }).click();
  }

  /** Keys and sizes of everything that the page keeps below a folder. */
  kept(folder) {
    return this.page.evaluate(async folder => {
      const found = {};
      const walk = async (handle, path) => {
        for await (const entry of handle.values()) {
          const key = `${path}/${entry.name}`;
          if (entry.kind === 'directory') await walk(entry, key);
          else found[key] = (await entry.getFile()).size;
        }
      };
      const root = await navigator.storage.getDirectory();
      const below = await root.getDirectoryHandle(folder).catch(() => null);
      if (below) await walk(below, folder);
      return found;
    }, folder);
  }

  /** How many bytes the browser lets the page keep; without a number as many as it did at first. */
  async quota(quotaSize) {
    const browser = await this.page.context().newCDPSession(this.page);
    await browser.send('Storage.overrideQuotaForOrigin', { origin: new URL(this.at).origin, quotaSize });
  }

  /** Waits until what `asked` promises in the page is true, and returns it; `waitForFunction` takes any promise for yes. */
  async until(asked, given, ms = 30_000) {
    for (const end = Date.now() + ms; ;) {
      // A page that begins again answers the next time.
      const found = await this.page.evaluate(asked, given).catch(() => null);
      if (found) return found;
      assert.ok(Date.now() < end, `did not come: ${asked}`);
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  }

  text(selector) {
    return this.page.locator(selector).innerText();
  }

  free(timeout = 60_000) {
    return this.page.waitForFunction(() => !document.querySelector('.busy'), null, { timeout });
  }

  /** Types settings, by their keys in the run file; those of sampling are of no section. */
  async set(settings) {
    for (const [key, value] of Object.entries(settings)) {
      const field = this.page.locator(`#set-${key.replaceAll('.', '-')}`);
      // Most settings are folded.
      await field.evaluate(field => field.closest('details')?.setAttribute('open', ''));
      await field.fill(String(value));
      await field.blur();
    }
  }

  /** Drops files on the zone of this input; each is a path, or a name with bytes. */
  async drop(id, ...files) {
    const named = files.map(file => (typeof file === 'string' ? { name: basename(file), bytes: readFileSync(file) } : file));
    const encoded = named.map(({ name, bytes }) => ({ name, base64: Buffer.from(bytes).toString('base64') }));
    const dataTransfer = await this.page.evaluateHandle(files => {
      const transfer = new DataTransfer();
      for (const { name, base64 } of files) {
        transfer.items.add(new File([Uint8Array.from(atob(base64), sign => sign.charCodeAt(0))], name));
      }
      return transfer;
    }, encoded);
    await this.page.locator(`label[for="${id}"]`).dispatchEvent('drop', { dataTransfer });
  }

  /** Clicks, and keeps what the browser then saves. */
  async save(button, name) {
    const [download] = await Promise.all([this.page.waitForEvent('download'), button.click()]);
    const path = join(this.work, name);
    await download.saveAs(path);
    return path;
  }

  /** Two schemes of colour, three widths. */
  async shot(name) {
    if (!shots) return;
    mkdirSync(shots, { recursive: true });
    for (const scheme of ['light', 'dark']) {
      await this.page.emulateMedia({ colorScheme: scheme });
      for (const width of [390, 900, 1440]) {
        await this.page.setViewportSize({ width, height: 900 });
        await this.page.screenshot({ path: join(shots, `${name}-${scheme}-${width}.png`), fullPage: true });
      }
    }
    await this.page.emulateMedia({ colorScheme: 'light' });
    await this.page.setViewportSize({ width: 1280, height: 800 });
  }

  /** What axe-core finds serious in the open view is a fault; looked for in both schemes of colour, narrow and wide. */
  async accessible(name) {
    this.axe ||= readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
    // Over the debugger's protocol, which the page's policy does not bind.
    await this.page.evaluate(this.axe);
    for (const [colorScheme, width] of [['dark', 390], ['light', 1280]]) {
      await this.page.emulateMedia({ colorScheme });
      await this.page.setViewportSize({ width, height: 800 });
      const violations = await this.page.evaluate(async () => (await axe.run(document, { resultTypes: ['violations'] })).violations);
      for (const { id, nodes } of violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))) {
        this.faults.push(`${name}, ${colorScheme}: ${id}, ${nodes.length} of it: ${nodes[0].html}: ${nodes[0].failureSummary}`);
      }
    }
  }

  /** Does the work and returns the main thread's longest task meanwhile, in milliseconds, 0 where all took under 50. */
  async unblocked(work) {
    const now = () => this.page.evaluate(() => performance.now());
    const begun = await now();
    await work();
    const ended = await now();
    // A probe that sees nothing would find nothing.
    await this.page.evaluate(ms => new Promise(resolve => setTimeout(() => {
      const start = performance.now();
      while (performance.now() - start < ms);
      resolve();
    })), LONGEST_TASK_MS);
    await this.page.waitForFunction(([ended, ms]) => longTasks.some(task => task.startTime >= ended && task.duration >= ms), [ended, LONGEST_TASK_MS]);
    const tasks = (await this.page.evaluate(() => longTasks)).filter(task => task.startTime >= begun && task.startTime < ended);
    const longest = Math.max(0, ...tasks.map(task => task.duration));
    assert.ok(longest <= LONGEST_TASK_MS, `the main thread was blocked for ${longest} ms`);
    return longest;
  }

  /** Opens the model of a folder and a file of rows; begins in the view of models, ends in that of data. */
  async bring(model, rows) {
    await this.page.setInputFiles('#model-files', filesOf(model));
    await this.page.waitForSelector('#model-card');
    await this.view('Data');
    await this.page.setInputFiles('#data-file', rows);
    await this.page.locator('#data-card h3', { hasText: basename(rows) }).waitFor();
  }

  /** A file of `n` questions that have these answers in turn. */
  skies(n, answers) {
    const rows = join(this.work, 'rows.jsonl');
    const row = i => JSON.stringify({ prompt: `The sky on day ${i} is`, completion: ` ${answers[i % answers.length]}.` });
    writeFileSync(rows, Array.from({ length: n }, (_, i) => `${row(i)}\n`).join(''));
    return rows;
  }

  /** The tiny Llama of the fixtures, as a folder with its tokenizer. */
  tinyModel(name = 'model') {
    const model = join(this.work, name);
    cpSync(join(fixtures, 'models/llama'), model, { recursive: true });
    for (const name of ['tokenizer.json', 'tokenizer_config.json']) cpSync(join(fixtures, 'tokenizer', name), join(model, name));
    for (const name of readdirSync(model).filter(name => name.startsWith('golden'))) rmSync(join(model, name));
    return model;
  }

  /** Saves the run file and the figures of the finished run. */
  async takeFigures() {
    await this.view('Take home');
    const button = name => this.page.getByRole('button', { name });
    const runFile = await this.save(button('Save run.toml'), 'run.toml');
    const figures = await this.save(button('Save metrics.jsonl'), 'metrics.jsonl');
    return { runFile, losses: losses(figures) };
  }

  /** The command line makes the same run from the run file; returns how far its losses are from `learned` at most. */
  repeat(runFile, model, data, learned) {
    const again = join(this.work, 'again');
    cli('train', runFile, '--model', model, '--data', data, '--out', again, '--device', 'cpu', '--json');
    const native = losses(join(again, 'metrics.jsonl'));
    assert.equal(native.length, learned.length);
    learned.forEach((loss, i) => assert.ok(Math.abs(loss - native[i]) < 1e-3, `step ${i + 1}: ${loss} in the page, ${native[i]} natively`));
    return Math.max(...learned.map((loss, i) => Math.abs(loss - native[i])));
  }

  /** Transformers and PEFT load the page's adapter; says how far its logits are from the command line's. */
  peft(model, adapter) {
    if (!python) return 'no PEFT here to ask';
    const logits = join(this.work, 'logits.safetensors');
    cli('export', '--model', model, '--adapter', adapter, '--format', 'adapter', '--out', join(this.work, 'exported'), '--logits', logits, '--device', 'cpu');
    const script = new URL('../reference/check_export.py', import.meta.url).pathname;
    const said = execFileSync(python, [script, '--export', adapter, '--base', model, '--logits', logits, '--tolerance', '1e-4'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    return `PEFT's logits at most ${JSON.parse(said).max_abs_diff.toExponential(1)} from the command line's`;
  }
}

export const filesOf = folder => readdirSync(folder).map(name => join(folder, name));
export const fixture = path => join(fixtures, path);
export const served = path => new URL(path, address);
export const cli = (...args) => execFileSync(attune, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

const losses = metrics =>
  readFileSync(metrics, 'utf8').trim().split('\n').map(JSON.parse).filter(line => line.event === 'step').map(line => line.loss);
