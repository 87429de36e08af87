// Makes the README's pictures: the page at real work on SmolLM2 and movie reviews, each view once, and the whole way
// as an animated image. `cargo xtask pictures` runs it.
//
// ATTUNE_PICTURES folder that receives them

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { animated } from './webp.mjs';
import { test } from './page.mjs';

const { ATTUNE_PICTURES: folder } = process.env;
const STEPS = 40;
const QUALITY = 75;
const SIZE = { width: 1200, height: 780 };
// A picture stays as long as it takes to read, a moment of training shorter.
const LOOK_MS = 2200;
const MOMENT_MS = 350;

await test(async opened => {
  const { page } = opened;
  mkdirSync(folder, { recursive: true });
  await page.setViewportSize(SIZE);
  const browser = await page.context().newCDPSession(page);
  const frames = [];
  const look = async (name, ms = LOOK_MS) => {
    const { data } = await browser.send('Page.captureScreenshot', { format: 'webp', quality: QUALITY });
    const bytes = Buffer.from(data, 'base64');
    frames.push({ bytes, ms });
    if (name) writeFileSync(join(folder, `${name}.webp`), bytes);
  };
  const scroll = selector => page.locator(selector).first().evaluate(node => node.scrollIntoView({ block: 'center' }));

  await look();
  await page.locator('.choice', { hasText: 'SmolLM2' }).click();
  await page.waitForSelector('#model-card', { timeout: 120_000 });
  await opened.free();
  await look('model');
  await opened.view('Data');
  await page.locator('.choice', { hasText: 'Movie reviews' }).click();
  await page.waitForSelector('#data-card', { timeout: 120_000 });
  await opened.free();
  await look();
  await scroll('.rows');
  await look('data');
  await opened.view('Tune');
  await opened.set({ 'train.max_steps': STEPS, 'train.batch_size': 4, 'data.max_length': 128, 'data.eval_fraction': 0.01 });
  await page.locator('summary', { hasText: 'More on evaluation' }).click();
  await opened.set({ 'train.eval_steps': 10 });
  await opened.free();
  await page.evaluate(() => scrollTo(0, 0));
  await look('tune');
  await opened.view('Train');
  await page.click('#start');
  await page.waitForSelector('#stop');
  const done = () => page.locator('#start:not(:disabled)').count();
  for (let step = 0; !(await done()); ) {
    const at = Number.parseInt(await opened.text('#step'), 10) || 0;
    if (at >= step + 3) {
      step = at;
      await look(at > STEPS / 2 ? 'train' : undefined, MOMENT_MS);
    }
    await page.waitForTimeout(500);
  }
  await look('train');
  await opened.view('Try');
  const chat = page.locator('.check input');
  if (await chat.count()) await chat.first().uncheck();
  await page.fill('#prompt', 'Review: A warm, funny film with two wonderful actors.\nSentiment:');
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await opened.set({ max_new_tokens: 8, temperature: 0 });
  await page.locator('summary', { hasText: 'Sampling' }).click();
  await page.click('#ask-both');
  await page.waitForSelector('#ask-both:not(:disabled)', { timeout: 120_000 });
  await look('try');
  await opened.view('Take home');
  await look('take-home');
  writeFileSync(join(folder, 'way.webp'), animated(frames, SIZE));
  return `${frames.length} frames`;
});
