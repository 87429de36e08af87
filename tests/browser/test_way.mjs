// The whole way through the page in a real browser, with a tiny model on the CPU: files in, loss falls, run stopped
// and resumed, both voices asked, adapter taken home. What comes home is compared with the command line's own work.
//
// ATTUNE_PAGE     address of the served page
// ATTUNE_BIN      the command line
// ATTUNE_CHROMIUM the browser
// ATTUNE_SHOTS    folder for screenshots of every view; none are made without it

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Found through NODE_PATH, which `import` does not look at.
const { chromium } = createRequire(import.meta.url)('playwright-core');

const { ATTUNE_PAGE: address, ATTUNE_BIN: attune, ATTUNE_CHROMIUM: browserPath, ATTUNE_SHOTS: shots } = process.env;
const fixtures = new URL('../fixtures/', import.meta.url).pathname;
const work = mkdtempSync(join(tmpdir(), 'attune-way-'));
const model = join(work, 'model');
const rows = join(work, 'rows.jsonl');
const PROMPT = 'The sky at noon is';
const STEPS = 24;

cpSync(join(fixtures, 'models/llama'), model, { recursive: true });
for (const name of ['tokenizer.json', 'tokenizer_config.json']) cpSync(join(fixtures, 'tokenizer', name), join(model, name));
for (const name of readdirSync(model).filter(name => name.startsWith('golden'))) rmSync(join(model, name));
const colours = ['blue', 'grey', 'white'];
writeFileSync(rows, Array.from({ length: 24 }, (_, i) =>
  JSON.stringify({ prompt: `The sky on day ${i} is`, completion: ` ${colours[i % 3]}.` })).join('\n') + '\n');

const context = await chromium.launchPersistentContext(join(work, 'profile'), {
  executablePath: browserPath,
  headless: true,
  acceptDownloads: true,
  viewport: { width: 1280, height: 800 },
  args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const faults = [];
const page = await context.newPage();
page.on('console', message => message.type() === 'error' && faults.push(`console: ${message.text()}`));
page.on('pageerror', error => faults.push(`page: ${error}`));
page.on('requestfailed', request => faults.push(`request: ${request.url()} ${request.failure()?.errorText}`));
page.on('request', request => {
  const { origin, protocol } = new URL(request.url());
  if (protocol.startsWith('http') && origin !== new URL(address).origin) faults.push(`left the origin: ${request.url()}`);
});

const view = async name => page.getByRole('navigation').getByRole('button', { name }).click();
const text = selector => page.locator(selector).innerText();
const waitFree = () => page.waitForFunction(() => !document.querySelector('.busy'));
async function shot(name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [390, 900, 1440]) {
      await page.setViewportSize({ width, height: 900 });
      await page.screenshot({ path: join(shots, `${name}-${scheme}-${width}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 800 });
}
async function set(key, value) {
  const field = page.locator(`#set-${key.replaceAll('.', '-')}`);
  await field.fill(String(value));
  await field.blur();
}
async function save(button, name) {
  const [download] = await Promise.all([page.waitForEvent('download'), button.click()]);
  const path = join(work, name);
  await download.saveAs(path);
  return path;
}
const cli = (...args) => execFileSync(attune, args, { encoding: 'utf8' });
const losses = jsonl => jsonl.trim().split('\n').map(JSON.parse).filter(line => line.event === 'step').map(line => line.loss);

async function way() {
  await page.goto(`${address}?device=cpu`);
  await page.waitForFunction(() => document.querySelector('#device')?.textContent.startsWith('CPU'), null, { timeout: 60_000 });
  await shot('1-model-empty');

  // A file that is no model is refused where it was chosen.
  await page.setInputFiles('#model-files', rows);
  await page.waitForSelector('#failure');
  assert.match(await text('#failure'), /no config\.json and no GGUF file/);

  await page.setInputFiles('#model-files', readdirSync(model).map(name => join(model, name)));
  await page.waitForSelector('#model-card');
  assert.match(await text('#model-card'), /llama/);
  assert.equal(await page.locator('#failure').count(), 0);
  await shot('1-model');

  await view('Data');
  await page.setInputFiles('#data-file', { name: 'bad.jsonl', mimeType: 'application/json', buffer: Buffer.from('{"prompt": 3}\n{"prompt":"a","completion":" b"}\n') });
  await page.waitForSelector('#data-card');
  assert.match(await text('#data-card'), /bad\.jsonl:1/);
  await page.setInputFiles('#data-file', rows);
  await page.locator('#data-card h3', { hasText: 'rows.jsonl' }).waitFor();
  assert.ok(await page.locator('.rows .token.learned').count() > 0);
  await shot('2-data');

  await view('Tune');
  await set('train.batch_size', 'many');
  await page.locator('.problem', { hasText: 'expected usize' }).waitFor();
  for (const [key, value] of Object.entries({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4 })) await set(key, value);
  await shot('3-tune');

  await view('Train');
  await page.click('#start');
  await page.waitForFunction(() => /^[3-9] of/.test(document.querySelector('#step').textContent));
  await page.click('#stop');
  await page.click('#resume', { timeout: 60_000 });
  await page.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  assert.equal(await text('#step'), `${STEPS} of ${STEPS}`);
  await shot('4-train');

  await view('Try');
  await page.fill('#prompt', PROMPT);
  const chat = page.locator('.check input');
  if (await chat.count()) await chat.uncheck();
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await set('max_new_tokens', 8);
  await page.click('#ask-both');
  await page.waitForFunction(() => document.querySelector('#said-base').textContent !== '');
  await page.waitForSelector('#ask-both:not(:disabled)');
  const said = { tuned: await page.locator('#said-tuned').textContent(), base: await page.locator('#said-base').textContent() };
  await shot('5-try');

  await view('Take home');
  await shot('6-take-home');
  const archive = await save(page.locator('#save-adapter'), 'adapter.zip');
  const runFile = await save(page.getByRole('button', { name: 'Save run.toml' }), 'run.toml');
  const figures = await save(page.getByRole('button', { name: 'Save metrics.jsonl' }), 'metrics.jsonl');

  const learned = losses(readFileSync(figures, 'utf8'));
  assert.equal(learned.length, STEPS);
  assert.ok(learned.at(-1) < learned[0] * 0.8, `loss went from ${learned[0]} to ${learned.at(-1)}`);

  // The command line loads the adapter and says the same.
  const adapter = join(work, 'adapter');
  execFileSync('python3', ['-m', 'zipfile', '-e', archive, adapter]);
  const generate = (...more) => JSON.parse(cli('generate', '--model', model, '--prompt', PROMPT, '--max-new-tokens', '8', '--device', 'cpu', '--json', ...more)).text;
  assert.equal(said.tuned, generate('--adapter', adapter));
  assert.equal(said.base, generate());

  // The command line makes the same run from the run file.
  const again = join(work, 'again');
  cli('train', runFile, '--model', model, '--data', rows, '--out', again, '--device', 'cpu', '--json');
  const native = losses(readFileSync(join(again, 'metrics.jsonl'), 'utf8'));
  learned.forEach((loss, i) => assert.ok(Math.abs(loss - native[i]) < 1e-3, `step ${i + 1}: ${loss} in the page, ${native[i]} natively`));

  assert.deepEqual(faults, []);
  const apart = Math.max(...learned.map((loss, i) => Math.abs(loss - native[i])));
  console.log(`loss ${learned[0].toFixed(3)} to ${learned.at(-1).toFixed(3)}; at most ${apart.toExponential(1)} from the command line`);
}

try {
  await way();
} catch (error) {
  console.error(error);
  const told = await page.locator('#failure').allInnerTexts().catch(() => []);
  console.error('the page says:', told, 'faults:', faults);
  if (shots) await page.screenshot({ path: join(shots, 'failure.png'), fullPage: true }).catch(() => {});
  process.exitCode = 1;
} finally {
  await context.close();
  rmSync(work, { recursive: true, force: true });
}
