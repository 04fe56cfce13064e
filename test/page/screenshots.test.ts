import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { launchBrowser } from '../browser.ts';
import type { Browser } from '../browser.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { DESKTOP, OpenPage, PHONE } from './page.ts';

const SCREENSHOTS = process.env['SCREENSHOTS'];
/** Of the animated picture. */
const FRAMES = { everyMs: 250, count: 36 };

/** `npm run screenshots`: the pictures of README and docs/api.md, from the model that is shipped. */
describe.runIf(SCREENSHOTS)('pictures of the page', { timeout: 300_000 }, () => {
  let browser: Browser;
  let server: Server;
  let open: OpenPage;
  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(() => browser.close());
  // One for each picture, so that its strip shows nothing older.
  beforeEach(async () => {
    server = await startServer({ MODEL_DIR: 'models/grocery', MAX_BATCH: undefined });
  });
  afterEach(async () => {
    await open.close();
    await server.stop();
  });

  test.each([
    ['desktop', 'light', DESKTOP],
    ['desktop', 'dark', DESKTOP],
    ['phone', 'light', PHONE],
    ['phone', 'dark', PHONE],
  ] as const)('the whole of it: %s, %s', async (size, theme, device) => {
    open = await OpenPage.open(browser, server.url, { ...device, colorScheme: theme });
    await open.page.locator('#burst').click();
    await open.page.locator('#burst:enabled').waitFor({ timeout: 60_000 });
    // The load has gone, and with it the reason for a shallow answer.
    await expect
      .poll(
        async () => {
          await open.page.locator('#stops button').nth(5).click();
          await sleep(1000);
          return open.verdict();
        },
        { timeout: 60_000 },
      )
      .toContain('within the budget');
    await open.page.mouse.move(0, 0);
    const picture = await open.page.screenshot({ fullPage: true });
    const path = `${SCREENSHOTS}/page-${size}-${theme}.png`;
    await sharp(picture).png({ palette: true, effort: 10 }).toFile(path);
  });

  test.each(['light', 'dark'] as const)('a burst, animated: %s', async (theme) => {
    const viewport = { width: 960, height: 560 };
    open = await OpenPage.open(browser, server.url, { viewport, colorScheme: theme });
    await open.page.evaluate(
      "scrollTo(0, document.querySelector('.network').getBoundingClientRect().top + scrollY - 16)",
    );
    const frames: Buffer[] = [await open.page.screenshot()];
    await open.page.locator('#burst').click();
    await open.page.mouse.move(0, 0);
    const started = performance.now();
    for (let frame = 1; frame <= FRAMES.count; frame++) {
      frames.push(await open.page.screenshot());
      await sleep(Math.max(0, started + frame * FRAMES.everyMs - performance.now()));
    }
    await sharp(frames, { join: { animated: true } })
      .webp({ delay: frames.map(() => FRAMES.everyMs), loop: 0, quality: 70, effort: 6 })
      .toFile(`${SCREENSHOTS}/burst-${theme}.webp`);
  });
});
