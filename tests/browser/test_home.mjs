// What is made in the page leaves it and comes back: a conversation of two turns, the merged model, table and log
// taken home and compared with the command line's own; then a browser that knows nothing of it gets the adapter, the
// run file and the whole run back, answers as before, and trains further.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cli, filesOf, fixture, served, test } from './page.mjs';

const STEPS = 12;
const FURTHER = 4;
const QUESTIONS = ['The sky at noon is', 'And at night?'];

await test(async opened => {
  const { page, work } = opened;
  const model = opened.tinyModel();
  cpSync(fixture('tokenizer/chat_template.jinja'), join(model, 'chat_template.jinja'));
  const rows = opened.skies(24, ['blue', 'grey']);
  const see = async name => {
    await opened.accessible(name);
    await opened.shot(name);
  };
  const open = async () => {
    await opened.view('Model');
    await opened.bring(model, rows);
  };
  const train = async steps => {
    await opened.view('Train');
    await page.click('#start');
    await page.waitForFunction(steps => document.querySelector('#step').textContent === `${steps} of ${steps}`, steps, { timeout: 120_000 });
    await page.waitForSelector('#start:not(:disabled)', { timeout: 60_000 });
  };
  const answers = async () => {
    await page.waitForFunction(() => [...document.querySelectorAll('.exchange:last-of-type .end')].every(end => end.textContent) && !document.querySelector('.busy'));
    const last = page.locator('.exchange').last();
    return { tuned: await last.locator('#said-tuned').textContent(), base: await last.locator('#said-base').textContent() };
  };
  const bring = async (...files) => {
    await opened.drop('bring-back', ...files);
    await page.waitForFunction(() => document.querySelector('#returned') || document.querySelector('#failure'));
    await opened.free();
    return page.locator('#returned, #failure').innerText();
  };
  const button = name => page.getByRole('button', { name, exact: true });

  await open();
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4, 'data.eval_fraction': 0.25 });
  await opened.free();
  await train(STEPS);

  // Two turns: each voice goes on from what it said itself, as the command line's chat does.
  await opened.view('Try');
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await opened.set({ max_new_tokens: 8 });
  const said = { tuned: [], base: [] };
  for (const question of QUESTIONS) {
    await page.fill('#prompt', question);
    await page.press('#prompt', 'Enter');
    const { tuned, base } = await answers();
    said.tuned.push(tuned);
    said.base.push(base);
  }
  assert.equal(await page.locator('.exchange').count(), 2);
  assert.match(await page.locator('.exchange').last().locator('.end').first().innerText(), /\d+ tokens?, [\d.,]+ tokens\/s, /);
  await see('5-try-conversation');
  await page.fill('#prompt', 'a');
  await page.press('#prompt', 'Shift+Enter');
  assert.equal(await page.inputValue('#prompt'), 'a\n');
  await page.click('#clear');
  assert.equal(await page.locator('.exchange').count(), 0);

  // A held-out row, with the answer it has.
  await page.click('#example');
  await page.waitForFunction(() => document.querySelector('#prompt-hint').textContent.includes('Held-out row 1 of 6'));
  const asked = await page.inputValue('#prompt');
  assert.match(asked, /^The sky on day \d+ is$/);
  await page.click('#ask-both');
  const alone = await answers();
  assert.match(await page.locator('.expected .text').textContent(), /^ (blue|grey)\.$/);

  await opened.view('Take home');
  await see('6-take-home-all');
  const archive = async id => {
    const path = await opened.save(page.locator(`#save-${id}`), `${id}.zip`);
    await opened.free();
    return path;
  };
  const unzip = (path, name) => {
    const folder = join(work, name);
    execFileSync('python3', ['-m', 'zipfile', '-e', path, folder]);
    return folder;
  };
  const adapterZip = await archive('adapter');
  const adapter = unzip(adapterZip, 'adapter');
  const merged = unzip(await archive('merged'), 'merged');
  const runZip = await archive('run');
  const table = readFileSync(await opened.save(button('Save metrics.csv'), 'metrics.csv'), 'utf8').trim().split('\r\n');
  assert.equal(table.length, STEPS + 1);
  assert.match(table.at(-1), new RegExp(`^${STEPS},${STEPS},`));
  const log = readFileSync(await opened.save(button('Save training-log.txt'), 'log.txt'), 'utf8');
  assert.match(log, new RegExp(`step ${STEPS}/${STEPS}  epoch .*\n.*held-out loss`));
  const { runFile, losses } = await opened.takeFigures();

  // The command line exports the same files; weights may differ in their last bit, as the two processors round.
  const exported = join(work, 'exported');
  cli('export', '--model', model, '--adapter', adapter, '--format', 'merged', '--out', exported, '--device', 'cpu');
  assert.deepEqual(readdirSync(merged).sort(), readdirSync(exported).sort());
  const bytes = (folder, name) => readFileSync(join(folder, name));
  for (const name of readdirSync(merged).filter(name => name !== 'model.safetensors')) {
    assert.ok(bytes(merged, name).equals(bytes(exported, name)), name);
  }
  const apart = weightsApart(bytes(merged, 'model.safetensors'), bytes(exported, 'model.safetensors'));
  assert.ok(apart < 1e-6, `weights differ by ${apart}`);
  const generate = (model, ...more) =>
    JSON.parse(cli('generate', '--model', model, '--prompt', asked, '--max-new-tokens', '8', '--device', 'cpu', '--json', ...more)).text;
  assert.equal(generate(merged), alone.tuned);
  assert.equal(generate(model), alone.base);
  const chat = (...more) => {
    const lines = execFileSync(process.env.ATTUNE_BIN, ['chat', '--model', model, '--max-new-tokens', '8', '--device', 'cpu', '--json', ...more], { input: QUESTIONS.join('\n') + '\n\n', encoding: 'utf8' });
    return lines.trim().split('\n').map(line => JSON.parse(line).text);
  };
  assert.deepEqual(said.tuned, chat('--adapter', adapter));
  assert.deepEqual(said.base, chat());

  // A browser that knows nothing.
  await page.goto('about:blank');
  const session = await page.context().newCDPSession(page);
  await session.send('Storage.clearDataForOrigin', { origin: served('').origin, storageTypes: 'all' });
  await opened.start();
  await opened.free();
  assert.equal(await page.locator('#stored-models').count(), 0);
  await opened.view('Take home');
  assert.match(await bring(adapterZip), /model: none is opened/);
  await open();

  await opened.view('Tune');
  assert.match(await bring(runFile), /settings of the run are in force/);
  await see('3-tune-returned');
  assert.equal(await page.inputValue('#set-train-max_steps'), String(STEPS));
  assert.equal(await page.inputValue('#set-method-rank'), '4');
  await opened.free();

  await opened.view('Take home');
  assert.match(await bring(...filesOf(fixture('adapters/gpt2-lora')).filter(path => path.includes('adapter_'))), /the adapter.*does not fit it/s);
  assert.match(await bring({ name: 'adapter.zip', bytes: readFileSync(adapterZip).subarray(0, 400) }), /no zip archive/);
  assert.match(await bring(adapterZip), /adapter is in place/);
  await opened.view('Try');
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await opened.set({ max_new_tokens: 8 });
  await page.locator('.check input').uncheck();
  await page.fill('#prompt', asked);
  await page.click('#ask-both');
  assert.deepEqual(await answers(), alone);

  await opened.view('Take home');
  assert.match(await bring(runZip), /adapter is in place.*settings of the run/s);
  await see('6-take-home-returned');
  await opened.view('Train');
  assert.equal(await opened.text('#step'), `${STEPS} of ${STEPS}`);
  assert.equal(await opened.text('#loss'), losses.at(-1).toFixed(4));
  await page.waitForFunction(() => document.querySelectorAll('#stored-runs .stored > li').length === 2);

  // Trained further, as the command line trains it further.
  await opened.view('Take home');
  await page.click('#further');
  await page.waitForSelector('#continues');
  await opened.set({ 'train.max_steps': FURTHER });
  await opened.free();
  await train(FURTHER);
  const further = await opened.takeFigures();
  const again = join(work, 'again');
  cli('train', further.runFile, '--adapter', adapter, '--model', model, '--data', rows, '--out', again, '--device', 'cpu', '--json');
  const native = readFileSync(join(again, 'metrics.jsonl'), 'utf8').trim().split('\n').map(JSON.parse).filter(line => line.event === 'step').map(line => line.loss);
  assert.equal(further.losses.length, native.length);
  further.losses.forEach((loss, i) => assert.ok(Math.abs(loss - native[i]) < 1e-3, `step ${i + 1}: ${loss}, not ${native[i]}`));
  assert.notEqual(further.losses[0], losses[0]);
  return `merged weights at most ${apart.toExponential(1)} from the command line's; adapter, run file and run came back; ${FURTHER} more steps from ${further.losses[0].toFixed(3)}`;
});

/** The largest difference of two files' tensors, which have the same names and shapes. */
function weightsApart(one, other) {
  const parse = bytes => {
    const length = Number(bytes.readBigUInt64LE(0));
    return { header: bytes.subarray(8, 8 + length).toString(), at: 8 + length };
  };
  const [a, b] = [parse(one), parse(other)];
  assert.equal(a.header, b.header);
  assert.equal(one.length, other.length);
  let apart = 0;
  for (let at = a.at; at < one.length; at += 4) apart = Math.max(apart, Math.abs(one.readFloatLE(at) - other.readFloatLE(at)));
  return apart;
}
