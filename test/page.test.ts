import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { AxeResults } from 'axe-core';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { launchBrowser, noBrowser } from './browser.ts';
import type { Browser } from './browser.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

if (noBrowser) console.warn(`skipping the tests of the page: ${noBrowser}`);

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const SCREENSHOTS = process.env['SCREENSHOTS'];

const DESKTOP = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

describe.skipIf(noBrowser)('the page', () => {
  let server: Server;
  let browser: Browser;
  let page: Page;
  /** Console errors, exceptions, failed requests, and requests to anyone but the service. */
  let complaints: string[];

  beforeAll(async () => {
    server = await startServer();
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });
  afterEach(async () => {
    await page?.context().close();
    const { exitCode, signalCode } = server.process;
    if (exitCode !== null || signalCode !== null) {
      throw new Error(
        `the server ended (${exitCode ?? signalCode}):\n${server.log().slice(-4000)}`,
      );
    }
    if (complaints.length > 0) throw new Error(`the browser complains:\n${complaints.join('\n')}`);
  });

  async function open(options: BrowserContextOptions = DESKTOP): Promise<void> {
    const context = await browser.context({ reducedMotion: 'reduce', ...options });
    page = await context.newPage();
    complaints = [];
    page.on('console', (message) => {
      // A refusal is an answer; Chromium reports its status as an error all the same.
      if (message.type() === 'error' && !/status of 50[34]/.test(message.text())) {
        complaints.push(message.text());
      }
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol === 'http:' && url.origin !== server.url) complaints.push(request.url());
    });
    await page.goto(`${server.url}/`);
    // The table is the last that is filled.
    await expect.poll(depthsFilled, { timeout: 20_000 }).toBe(true);
  }

  /** Sets the budget by its position on the logarithmic slider: 0 is 1 ms, 300 is 1000 ms. */
  async function setBudget(position: number): Promise<void> {
    const answered = page.waitForResponse((response) => response.url().includes('/classify'));
    await page.locator('#budget').fill(String(position));
    await answered;
  }

  async function depthsFilled(): Promise<boolean> {
    const cells = await page.locator('#depths td').allTextContents();
    return cells.length > 0 && !cells.includes('…');
  }

  async function sendBurst(): Promise<void> {
    await page.locator('#burst').click();
    await page.locator('#burst:enabled').waitFor({ timeout: 20_000 });
  }

  /** For a picture: a burst in the strip, and an answer in time under a tight budget. */
  async function posed(): Promise<void> {
    await sendBurst();
    await page.waitForTimeout(2500);
    let position = 70;
    do {
      await setBudget(position);
      await expect.poll(verdict).toMatch(/within|over|Refused|ran out/);
      position += 6;
    } while (!/within/.test((await verdict()) ?? ''));
  }

  const verdict = () => page.locator('#verdict').textContent();
  const stagesThatRan = () =>
    page
      .locator('#network svg')
      .evaluateAll((stages) =>
        stages.map((stage) => (stage.getAttribute('data-ran') === 'full' ? 'F' : 'T')).join(''),
      );

  test('answers for the sample at once, with the network drawn as it ran', async () => {
    await open();
    await setBudget(300);
    await expect.poll(verdict).toMatch(/within the budget of 1000 ms, by sub-network [TF]+/);
    const ran = /by sub-network ([TF]+)/.exec((await verdict())!)![1];
    expect(await stagesThatRan()).toBe(ran);
    expect(await page.locator('#bars li').count()).toBe(5);
    expect(await page.locator('#depths tr.chosen th').textContent()).toContain(ran);
    expect(await page.locator('#timeline dt').allTextContents()).toEqual(
      expect.arrayContaining([expect.stringContaining('Queue')]),
    );
  });

  test('says what budget would have worked when 1 ms is not enough', async () => {
    await open();
    await setBudget(0);
    await expect.poll(verdict).toMatch(/now, \d[\d.]* ms would be enough/);
    expect(await page.locator('#network').getAttribute('aria-label')).toMatch(/^A network of 4/);
  });

  test('works from the keyboard: sample, budget, floor', async () => {
    await open();
    await page.locator('#samples button').nth(1).focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => page.locator('#preview').getAttribute('alt')).toBe('A cup of coffee');
    await page.locator('#budget').focus();
    await page.keyboard.press('End');
    expect(await page.locator('#budget').getAttribute('aria-valuetext')).toBe('1000 ms');
    await page.locator('#floor').focus();
    await page.keyboard.press('End');
    await page.keyboard.press('Tab');
    const best = await page.locator('#floor option').last().textContent();
    await expect.poll(verdict).toContain(`expected accuracy ${best}`);
  });

  test('takes a photo that is dropped on it', async () => {
    await open();
    const bytes = [...(await readFile('src/page/samples/rocket.jpg'))];
    const files = await page.evaluateHandle(`(() => {
      const transfer = new DataTransfer();
      const content = new Uint8Array(${JSON.stringify(bytes)});
      transfer.items.add(new File([content], 'mine.jpg', { type: 'image/jpeg' }));
      return transfer;
    })()`);
    await page.dispatchEvent('#drop', 'drop', { dataTransfer: files });
    await expect.poll(() => page.locator('#preview').getAttribute('alt')).toBe('mine.jpg');
  });

  test('shows all combinations on request', async () => {
    await open();
    await page.locator('#all-depths').click();
    await expect.poll(() => page.locator('#depths tr').count()).toBe(16);
    await expect.poll(depthsFilled, { timeout: 20_000 }).toBe(true);
  });

  test('a burst shows in the live strip', async () => {
    await open();
    await setBudget(300);
    await sendBurst();
    expect(await page.locator('#burst-state').textContent()).toMatch(
      /Images answered: \d+ by [TF]+/,
    );
    await expect
      .poll(() => page.locator('#strip svg').first().getAttribute('aria-label'))
      .toMatch(/[1-9]\d* answered/);
  });

  test.each([
    ['desktop', 'light', DESKTOP],
    ['desktop', 'dark', DESKTOP],
    ['phone', 'light', PHONE],
    ['phone', 'dark', PHONE],
  ] as const)('is accessible on a %s in the %s theme', async (size, theme, device) => {
    await open({ ...device, colorScheme: theme, deviceScaleFactor: 1 });
    if (SCREENSHOTS) await posed();
    await page.waitForSelector('#strip svg');
    const overflow = await page.evaluate(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    );
    expect(overflow, 'no sideways scrolling').toBe(0);
    // Through the debugging protocol, so that the page's own policy need not allow it.
    await page.evaluate(await readFile(AXE, 'utf8'));
    const { violations } = await page.evaluate<AxeResults>('axe.run()');
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([]);
    if (SCREENSHOTS) {
      await page.screenshot({ path: `${SCREENSHOTS}/page-${size}-${theme}.png`, fullPage: true });
    }
  });
});
