import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AxeResults } from 'axe-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { launchBrowser, noBrowser } from '../browser.ts';
import type { Browser } from '../browser.ts';
import { freePorts, startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { DESKTOP, NARROW, OpenPage, PHONE, ZOOMED } from './page.ts';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

let browser: Browser;
let open: OpenPage;
beforeAll(async () => {
  if (!noBrowser) browser = await launchBrowser();
});
afterAll(() => browser?.close());
afterEach(() => open?.close());

describe.skipIf(noBrowser)('what the page shows of load, and for whom', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server?.stop());

  const strip = () => open.page.locator('#strip svg').first().getAttribute('aria-label');

  async function sendBurst(): Promise<void> {
    await open.page.locator('#burst').click();
    await open.page.locator('#burst:enabled').waitFor({ timeout: 60_000 });
  }

  test('its own requests for every depth are not in the strip', async () => {
    open = await OpenPage.open(browser, server.url);
    const { page } = open;
    await page.locator('#all-depths').click();
    await expect.poll(() => page.locator('#depths tr').count()).toBe(16);
    await expect.poll(() => open.depthsFilled(), { timeout: 60_000 }).toBe(true);
    // A chosen answer after them: when it shows, so would they.
    await open.setBudget(60_000);
    const asked = open.budgets.length;
    await expect.poll(strip, { timeout: 10_000 }).toMatch(/[1-9]\d* answered/);
    const [, answered, refused] = /(\d+) answered, (\d+) requests/.exec((await strip())!)!;
    expect(Number(answered) + Number(refused)).toBeLessThanOrEqual(asked);
  });

  test('a burst shows depths and rate beside the network, and in the strip', async () => {
    open = await OpenPage.open(browser, server.url);
    const before = Number(/(\d+) answered/.exec((await strip())!)![1]);
    await sendBurst();
    expect(await open.text('#burst-state')).toMatch(/\d+ images a second under [\d.]+ ms/);
    const mix = await open.page.locator('#burst-mix').getAttribute('aria-label');
    expect(mix).toMatch(/\d+ by [TF]{4}|no answers/);
    // What is drawn is what is said of it.
    const drawn = await open.page.locator('#network .stages').getAttribute('aria-label');
    expect(await open.text('#network-words')).toMatch(new RegExp(`^${drawn!}\\. `));
    const answered = async () => Number(/(\d+) answered/.exec((await strip())!)![1]);
    await expect.poll(answered, { timeout: 10_000 }).toBeGreaterThan(before + 5);
  });

  test('single seconds of the strip are read by pointer and by key', async () => {
    open = await OpenPage.open(browser, server.url);
    const { page } = open;
    expect(await page.locator('.time-axis span').last().textContent()).toBe('now');
    expect(await page.locator('.axis span').count()).toBeGreaterThan(6);
    await page.locator('.strip').press('ArrowLeft');
    expect(await open.text('.readout')).toMatch(/^\d+:\d\d:\d\d.*: /);
    await page.keyboard.press('Escape');
    await expect.poll(() => open.text('.readout')).toMatch(/^Point/);
    await page.locator('#strip svg').first().hover();
    await expect.poll(() => open.text('.readout')).toMatch(/^\d+:\d\d:\d\d.*: /);
  });

  test.each([
    ['desktop', 'light', DESKTOP],
    ['desktop', 'dark', DESKTOP],
    ['phone', 'light', PHONE],
    ['phone', 'dark', PHONE],
    ['320px', 'light', NARROW],
    ['zoomed', 'dark', ZOOMED],
  ] as const)('is accessible: %s, %s', async (size, theme, device) => {
    const scale = size === 'zoomed' ? 2 : 1;
    const options = { ...device, colorScheme: theme, deviceScaleFactor: scale };
    open = await OpenPage.open(browser, server.url, options);
    const { page } = open;
    const overflow = await page.evaluate(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    );
    expect(overflow, 'no sideways scrolling').toBe(0);
    // Through the debugging protocol, so that the page's own policy need not allow it.
    await page.evaluate(await readFile(AXE, 'utf8'));
    const { violations } = await page.evaluate<AxeResults>('axe.run()');
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([]);
  });
});

describe.skipIf(noBrowser)('the page of another service', () => {
  let folder: string;
  let server: Server | undefined;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-page-'));
  });
  afterEach(async () => {
    // Before the server goes, or the page would miss it.
    await open?.page.context().close();
    await server?.stop();
    server = undefined;
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('a model of five stages and seven classes, without samples and known accuracies', async () => {
    server = await startServer({ MODEL_DIR: 'test/fixtures/five-flags' });
    open = await OpenPage.open(browser, server.url);
    expect(await open.verdict()).toContain('Choose a photo first');
    await open.give(
      'drop',
      'cat.jpg',
      await readFile('models/cifar10/samples/cat.jpg'),
      'image/jpeg',
    );
    // A busy machine may miss the budget that the page starts with.
    await open.setBudget(60_000);
    await expect.poll(() => open.verdict(), { timeout: 20_000 }).toMatch(/class \d.*the budget of/);
    await expect.poll(async () => (await open.networkDrawn())[0]).toMatch(/^[FT]{5}$/);
    expect(await open.text('#classes-title')).toBe('The 7 classes that it knows');
    expect(await open.page.locator('#depths').textContent()).toContain('unknown');
  });

  test('on a phone, the table of depths needs no scrolling, also with long names', async () => {
    server = await startServer({ MODEL_DIR: 'models/grocery' });
    open = await OpenPage.open(browser, server.url, PHONE);
    const { page } = open;
    // Each row has been asked for.
    await expect.poll(() => page.locator('#depths td:has-text("%)")').count()).toBeGreaterThan(1);
    const hidden = await page.evaluate(
      "[...document.querySelectorAll('.scroll')].map((box) => box.scrollWidth - box.clientWidth)",
    );
    expect(hidden).toEqual([0]);
  });

  test('a service that stops is said to have stopped, and goes on when it is back', async () => {
    const [port] = await freePorts(1);
    server = await startServer({ PORT: String(port) });
    open = await OpenPage.open(browser, server.url);
    await expect.poll(() => open.text('#status')).toContain('on CPU');
    await server.stop();
    await expect.poll(() => open.text('#status'), { timeout: 10_000 }).toMatch(/^no answer since/);
    expect(await open.page.locator('#strip').getAttribute('class')).toBe('stale');
    await open.page.locator('#again').click();
    await expect.poll(() => open.verdict()).toContain('cannot be reached');
    server = await startServer({ PORT: String(port) });
    await expect.poll(() => open.text('#status'), { timeout: 10_000 }).toContain('on CPU');
    await open.setBudget(60_000);
    await expect.poll(() => open.verdict()).toContain('within the budget');
    open.complaints.length = 0;
  });

  /** @returns the file of a service whose only token is `open-sesame`. */
  async function tokensFile(): Promise<string> {
    const file = join(folder, 'tokens.json');
    const sha256 = createHash('sha256').update('open-sesame').digest('hex');
    await writeFile(file, JSON.stringify({ tokens: [{ name: 'page', sha256 }] }));
    return file;
  }

  async function giveToken(): Promise<void> {
    await open.page.locator('#token').fill('open-sesame');
    await open.page.locator('#token').press('Enter');
  }

  test('a service that wants a token is given one', async () => {
    server = await startServer({ TOKENS_FILE: await tokensFile() });
    open = await OpenPage.open(browser, server.url, DESKTOP, false);
    await giveToken();
    await expect.poll(() => open.depthsFilled(), { timeout: 60_000 }).toBe(true);
    expect(await open.page.locator('#token-form').isVisible()).toBe(false);
    await open.setBudget(60_000);
    await expect.poll(() => open.verdict()).toContain('within the budget');
    // The question for the token was one.
    open.complaints.length = 0;
  });

  test('a service that comes to want a token while the page is open is given one', async () => {
    const [port] = await freePorts(1);
    server = await startServer({ PORT: String(port) });
    open = await OpenPage.open(browser, server.url);
    await server.stop();
    server = await startServer({ PORT: String(port), TOKENS_FILE: await tokensFile() });
    await giveToken();
    await expect.poll(() => open.text('#status'), { timeout: 10_000 }).toContain('on CPU');
    expect(await open.page.locator('#token-form').isVisible()).toBe(false);
    await open.setBudget(60_000);
    await expect.poll(() => open.verdict()).toContain('within the budget');
    open.complaints.length = 0;
  });
});
