// A tab that is killed in mid-run: the next visit finds model, rows and run in this browser, goes on from the last
// checkpoint and ends as the run would have ended. A second tab is kept out meanwhile.

import assert from 'node:assert/strict';
import { served, test } from './page.mjs';

// Enough that the tab dies long before the end.
const STEPS = 400;
const SAVE_STEPS = 10;

await test(async opened => {
  const { page } = opened;
  const model = opened.tinyModel();
  const rows = opened.skies(24, ['blue', 'grey']);
  const other = await page.context().newPage();
  await other.goto(served('?device=cpu').href);
  await other.waitForSelector('#failure', { timeout: 20_000 });
  assert.match(await other.locator('#failure').innerText(), /open in another tab/);
  await other.close();

  await opened.bring(model, rows);
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'train.learning_rate': 0.01, 'method.rank': 4 });
  await opened.set({ 'train.save_steps': SAVE_STEPS });
  await opened.view('Train');
  await page.click('#start');
  await page.waitForFunction(at => parseInt(document.querySelector('#step').textContent) > at, SAVE_STEPS + 2);

  // A crash closes nothing properly: the process behind the tab ends at once.
  const session = await page.context().newCDPSession(page);
  await Promise.race([session.send('Page.crash').catch(() => {}), new Promise(resolve => setTimeout(resolve, 2000))]);
  const later = await page.context().newPage();
  await page.close();
  opened.follow(later);
  await opened.start();
  await later.waitForSelector('#unfinished', { timeout: 20_000 });
  const offered = await opened.text('#unfinished');
  assert.match(offered, new RegExp(`step \\d+ of ${STEPS}`));
  await later.click('#go-back');
  await later.click('#resume', { timeout: 20_000 });
  await later.waitForSelector('#start:not(:disabled)', { timeout: 120_000 });
  assert.equal(await opened.text('#step'), `${STEPS} of ${STEPS}`);

  const { runFile, losses } = await opened.takeFigures();
  const apart = opened.repeat(runFile, model, rows, losses);
  return `killed at ${offered.match(/step \d+/)[0]}, resumed to ${losses.length}; at most ${apart.toExponential(1)} from an unbroken run of the command line`;
});
