// What a run shows while it goes on, and several runs side by side: curves with a reader, prompts answered at every
// evaluation, signs of trouble in words, two runs compared by the settings that differ, a run named and deleted.

import assert from 'node:assert/strict';
import { test } from './page.mjs';

const STEPS = 30;

await test(async opened => {
  const { page } = opened;
  const rows = opened.skies(24, ['blue', 'grey', 'white']);
  await opened.bring(opened.tinyModel(), rows);

  const train = async settings => {
    await opened.view('Tune');
    await opened.set(settings);
    await opened.view('Train');
    await page.click('#start');
    const steps = settings['train.max_steps'];
    await page.waitForFunction(steps => document.querySelector('#step').textContent === `${steps} of ${steps}`, steps, { timeout: 120_000 });
    await page.waitForSelector('#start:not(:disabled)', { timeout: 60_000 });
  };
  await train({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4, 'data.eval_fraction': 0.25, 'train.eval_steps': 10 });

  // Curves, and what they are at a step.
  // They are drawn a few times a second, so the last steps take a moment to show.
  const drawn = lengths => page.waitForFunction(lengths => {
    const lines = [...document.querySelectorAll('#charts path.line')];
    return JSON.stringify(lines.map(path => path.getAttribute('d').split('L').length)) === JSON.stringify(lengths);
  }, lengths);
  await drawn([STEPS, STEPS, 3, STEPS, STEPS, STEPS]); // loss raw, smooth, held out; rate; norm raw, smooth
  assert.ok(await page.locator('#charts text.tick').count() > 15);
  await page.focus('#read-step');
  await page.keyboard.press('Home');
  assert.match(await opened.text('#read-out'), /^Step 1: loss \d/);
  await page.keyboard.press('End');
  assert.match(await opened.text('#read-out'), new RegExp(`^Step ${STEPS}: .*held-out loss [\\d.]+ at step ${STEPS}$`));
  await page.locator('#charts svg').first().hover();
  assert.match(await opened.text('#read-out'), /^Step 1\d: /);

  // Two prompts of held-out rows, before the first step and at each of three evaluations.
  assert.equal(await page.locator('#samples .prompt').count(), 2);
  assert.match(await page.locator('#samples .prompt').first().innerText(), /^The sky on day \d+ is$/);
  assert.deepEqual(await page.locator('#samples .sample').first().locator('dt').allInnerTexts(), ['step 30', 'step 20', 'step 10', 'before']);
  assert.match(await opened.text('#memory'), /MB|GB/);
  await opened.accessible('4-train-one');
  await opened.shot('4-train-one');

  // A rate that is far too low is said in words: with all rows in every batch nothing hides that the loss stays.
  await train({ 'train.max_steps': 2 * STEPS, 'train.batch_size': 24, 'train.learning_rate': 1e-7 });
  await page.locator('.sign', { hasText: 'The loss has hardly changed' }).waitFor();

  // Both runs in one chart, and what sets them apart.
  // The list of what is kept is read again once a run has ended, so the second takes a moment to stand in it.
  await page.waitForFunction(() => document.querySelectorAll('#stored-runs li').length === 2);
  for (const name of ['Run 1', 'Run 2']) await page.getByLabel(`Compare ${name}`).check();
  await page.waitForFunction(steps => {
    const lines = [...document.querySelectorAll('#compare path.line.run:not(.held)')].filter(path => path.closest('svg.chart'));
    return lines.length === 2 && lines.every((path, i) => path.getAttribute('d').split('L').length === (2 - i) * steps);
  }, STEPS);
  const differing = await page.locator('#differences tbody tr').allInnerTexts();
  assert.deepEqual(differing.map(line => line.split(/\s+/)), [['train.batch_size', '24', '4'], ['train.learning_rate', '0.0000001', '0.01'], ['train.max_steps', `${2 * STEPS}`, `${STEPS}`]]);
  await opened.accessible('4-train-two');
  await opened.shot('4-train-two');

  await page.getByRole('button', { name: 'Rename Run 1' }).click();
  await page.getByLabel('Name of Run 1').fill('the good one');
  await page.keyboard.press('Enter');
  await page.getByLabel('Compare the good one').waitFor();

  // What another visit shows of it is what this one showed.
  const loss = await opened.text('#loss');
  await page.getByRole('button', { name: 'Open the good one' }).click();
  await page.waitForFunction(() => document.querySelectorAll('#samples .sample').length === 2, null, { timeout: 60_000 });
  await page.waitForSelector('#start:not(:disabled)');
  assert.notEqual(await opened.text('#loss'), loss);
  assert.equal(await page.locator('.sign').count(), 0);
  await drawn([STEPS, STEPS, 3, STEPS, STEPS, STEPS]);

  const remove = page.getByRole('button', { name: 'Delete Run 2' });
  await remove.click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await remove.click();
  await page.getByRole('button', { name: 'Delete Run 2 for good' }).click();
  await page.waitForFunction(() => document.querySelectorAll('#stored-runs li').length === 1);
  return `runs of ${STEPS} and ${2 * STEPS} steps: curves, answers and a sign of trouble shown; ${differing.length} settings differ`;
});
