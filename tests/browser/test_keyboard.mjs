// The whole way without a pointer: each thing is reached by Tab, seen to have the focus, and worked by a key. The page
// is in Chinese, chosen by keyboard too, and says nothing in English that it could say in Chinese.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesOf, test } from './page.mjs';

const MOST_TABS = 120;

await test(async opened => {
  const { page, work } = opened;
  const rows = join(work, 'rows.jsonl');
  writeFileSync(rows, Array.from({ length: 16 }, (_, i) => JSON.stringify({ prompt: `${i} + 1 = `, completion: `${i + 1}` })).join('\n') + '\n');
  let pressed = 0;
  const reach = async selector => {
    for (let tabs = 0; tabs < MOST_TABS; tabs++) {
      if (await page.evaluate(selector => document.activeElement.matches(selector), selector)) {
        const isSeen = await page.evaluate(() => {
          const { activeElement } = document;
          // What is hidden from the eye shows the focus on the label around it.
          const shown = activeElement.closest('.drop') ?? activeElement;
          const { outlineStyle, outlineWidth } = getComputedStyle(shown);
          return outlineStyle !== 'none' && Number.parseFloat(outlineWidth) > 0;
        });
        assert.ok(isSeen, `the focus on ${selector} cannot be seen`);
        return;
      }
      await page.keyboard.press('Tab');
      pressed += 1;
    }
    assert.fail(`${selector} is not reached by Tab`);
  };
  const press = async (selector, key = 'Enter') => {
    await reach(selector);
    await page.keyboard.press(key);
  };
  const type = async (selector, text) => {
    await reach(selector);
    await page.keyboard.press('ControlOrMeta+A');
    await page.keyboard.type(text);
    await page.keyboard.press('Tab');
  };
  const step = number => press(`.rail li:nth-child(${number}) button`);

  await press('#language', 'ArrowDown');
  await page.waitForFunction(() => document.documentElement.lang === 'zh-Hans');
  await reach('#model-files');
  // The dialogue that chooses files is the system's own.
  await page.setInputFiles('#model-files', filesOf(opened.tinyModel()));
  await page.waitForSelector('#model-card');
  await opened.free();
  const english = new Set();
  const listen = async () => {
    const text = await page.locator('header, nav, main').allInnerTexts();
    // A sentence is at least three words in a row; what people typed, and code, is theirs.
    for (const sentence of text.join('\n').match(/[A-Za-z]+( [a-z]+){2,}/g) ?? []) english.add(sentence);
  };
  await listen();
  await press('.next');
  await reach('#data-file');
  await page.setInputFiles('#data-file', rows);
  await page.locator('#data-card').waitFor();
  await opened.free();
  await listen();
  await press('.next');
  await type('#set-train-max_steps', '4');
  await opened.free();
  await listen();
  await press('.next');
  await press('#start');
  await page.waitForSelector('#stop');
  await page.waitForSelector('#start:not(:disabled)', { timeout: 60_000 });
  await listen();
  await press('.next');
  await type('#prompt', '7 + 1 =');
  await press('#ask-both');
  await page.waitForFunction(() => document.querySelector('#said-base')?.textContent);
  await page.waitForSelector('#ask-both:not(:disabled)');
  await step(6);
  const [download] = await Promise.all([page.waitForEvent('download'), press('#save-adapter')]);
  assert.equal(download.suggestedFilename(), 'adapter.zip');
  assert.deepEqual([...english], []);
  return `model to adapter by ${pressed} Tabs and no click, in Chinese`;
});
