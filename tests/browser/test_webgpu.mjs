// WebGPU in the page: ten LoRA steps with the command line's losses on the CPU, though the GPU is lost on the way, and
// an adapter that the command line loads.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { cli, testOnGpu } from './page.mjs';

const PROMPT = 'The sky at noon is';
const STEPS = 10;
const SAVE_STEPS = 3;

// Before the worker's code asks for a device: what it gets can then be taken from it.
const keepDevices = () => {
  const { requestDevice } = GPUAdapter.prototype;
  globalThis.devices = [];
  GPUAdapter.prototype.requestDevice = async function (...asked) {
    const device = await requestDevice.apply(this, asked);
    devices.push(device);
    return device;
  };
};

await testOnGpu(async opened => {
  const { page, work } = opened;
  const device = await page.locator('.device').innerText();
  assert.match(device, /swiftshader.*tensors up to [\d.]+ [MG]B, buffers up to/is);
  const model = opened.tinyModel();
  const rows = opened.skies(24, ['blue', 'grey', 'white']);
  await opened.bring(model, rows);
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4 });
  await opened.set({ 'train.save_steps': SAVE_STEPS, 'train.sample_rows': 0 });
  await opened.view('Train');
  const begun = performance.now();
  await page.click('#start');
  await page.waitForFunction(at => parseInt(document.querySelector('#step').textContent) > at, SAVE_STEPS, { timeout: 120_000 });
  const secondsAStep = (performance.now() - begun) / 1000 / (SAVE_STEPS + 1);

  await opened.inWorker(() => devices.forEach(device => device.destroy()));
  assert.match(await opened.goOn(), /The worker stopped: the GPU was lost/);
  await page.waitForSelector('#start:not(:disabled)', { timeout: 180_000 });
  assert.equal(await opened.text('#step'), `${STEPS} of ${STEPS}`);

  await opened.view('Try');
  await page.fill('#prompt', PROMPT);
  const chat = page.locator('.check input');
  if (await chat.count()) await chat.uncheck();
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await opened.set({ max_new_tokens: 4 });
  await page.click('#ask-both');
  await page.waitForSelector('#ask-both:not(:disabled)', { timeout: 120_000 });
  const said = await page.locator('#said-tuned').textContent();
  const { runFile, losses } = await opened.takeFigures();
  const archive = await opened.save(page.locator('#save-adapter'), 'adapter.zip');
  const adapter = join(work, 'adapter');
  execFileSync('python3', ['-m', 'zipfile', '-e', archive, adapter]);
  const { text } = JSON.parse(cli('generate', '--model', model, '--adapter', adapter, '--prompt', PROMPT, '--max-new-tokens', '4', '--device', 'cpu', '--json'));
  assert.equal(said, text);

  const apart = opened.repeat(runFile, model, rows, losses);
  return `${losses.length} steps over a lost GPU, at most ${apart.toExponential(1)} from the command line on the CPU; ${secondsAStep.toFixed(1)} s a step; the adapter speaks the same; ${opened.peft(model, adapter)}`;
}, keepDevices);
