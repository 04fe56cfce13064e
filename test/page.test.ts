import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { BrowserContextOptions } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Answer } from '../src/http/schemas.ts';
import { Track } from '../src/page/track.js';
import { launchBrowser, noBrowser } from './browser.ts';
import type { Browser } from './browser.ts';
import { DESKTOP, OpenPage } from './page/page.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

if (noBrowser) console.warn(`skipping the tests of the page: ${noBrowser}`);

interface Model {
  manifest: { labels: string[]; subNetworks: unknown[] };
  tiers: { skip: string; accuracy: number; budgetMs: number }[];
}

describe.skipIf(noBrowser)('the page', () => {
  let server: Server;
  let browser: Browser;
  let open: OpenPage;
  let model: Model;

  beforeAll(async () => {
    server = await startServer();
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });
  afterEach(() => open?.close());

  /** The page is told of one model throughout, whose times are not those of a busy machine. */
  const visit = async (options?: BrowserContextOptions, isQuiet?: boolean) => {
    const told = (await (await fetch(`${server.url}/model`)).json()) as Model;
    const tiers = told.tiers.map((tier, index) => ({ ...tier, budgetMs: 100 + 20 * index }));
    model = { ...told, tiers };
    open = await OpenPage.open(browser, server.url, { ...options, model }, isQuiet);
    return open.page;
  };

  test('begins with an answer for the first sample, and the network drawn as it ran', async () => {
    const page = await visit();
    expect(await open.verdict()).toMatch(/ms.* the budget of .*, by [TF]+ \(expected accuracy/);
    const ran = /by ([TF]+)/.exec((await open.verdict())!)![1]!;
    expect(await open.networkDrawn()).toEqual([ran]);
    expect(await page.locator('#bars li').count()).toBe(5);
    expect(await page.locator('#depths tr.chosen th').textContent()).toContain(ran);
    // The same sub-network is as sure of the same photo wherever the page says it.
    const sure = await page.locator('#bars li b').first().textContent();
    await expect
      .poll(() => page.locator('#depths tr.chosen td').first().textContent())
      .toContain(`(${sure})`);
    expect(await page.locator('#timeline dt').allTextContents()).toEqual(
      ['Decode', 'Queue', 'Inference', 'Rest', 'Total'].map((name) =>
        expect.stringContaining(name),
      ),
    );
  });

  test('sweeps from plenty to little once, by itself, where motion is welcome', async () => {
    await visit({ ...DESKTOP, reducedMotion: 'no-preference' });
    const { budgets } = open;
    // The end of the track, and one budget for each sub-network.
    const steps = model.tiers.length + 1;
    const swept = budgets.slice(0, steps);
    expect(new Set(swept).size).toBe(steps);
    expect(swept).toEqual(swept.toSorted((a, b) => b - a));
    const settled = budgets.slice(steps);
    expect(settled.length).toBeGreaterThan(0);
    expect(settled).toEqual(settled.toSorted((a, b) => a - b));
    expect(await open.verdict()).toContain('the budget of');
  });

  test('can be used while it sweeps, and stops sweeping for it', async () => {
    const page = await visit({ ...DESKTOP, reducedMotion: 'no-preference' }, false);
    await expect.poll(() => open.verdict()).toContain('the budget of');
    await page.locator('#all-depths').click();
    await expect
      .poll(() => page.locator('#depths tr').count())
      .toBe(model.manifest.subNetworks.length);
    await page.locator('#again').click();
    const swept = new Set(open.budgets).size;
    await expect.poll(() => page.locator('#verdict').getAttribute('aria-live')).toBeNull();
    expect(new Set(open.budgets).size, 'no further budgets').toBe(swept);
  });

  test('works without samples when they cannot be loaded', async () => {
    const page = await visit();
    await page.route('**/samples/**', (route) => route.abort());
    await page.reload();
    await expect.poll(() => open.verdict()).toContain('Choose a photo first');
    await expect.poll(() => open.text('#status')).toContain('on CPU');
    const bytes = await readFile('test/fixtures/pillow/31x33-plain.png');
    await open.give('drop', 'mine.png', bytes, 'image/png');
    await expect.poll(() => open.photo()).toBe('mine.png');
    await expect.poll(() => open.verdict()).toMatch(/the budget of|Use/);
    open.complaints.length = 0;
  });

  test('does not sweep where motion is not welcome', async () => {
    await visit({ ...DESKTOP, reducedMotion: 'reduce' });
    // One budget, which is raised where it is not enough.
    expect(open.budgets).toEqual(open.budgets.toSorted((a, b) => a - b));
  });

  test('tells the classes, and offers the samples of the model', async () => {
    const page = await visit();
    await page.locator('#classes-title').click();
    expect(await page.locator('#classes li').allTextContents()).toEqual(model.manifest.labels);
    expect(await page.locator('#samples button').count()).toBe(1);
    expect(await open.photo()).toBe('A cat');
  });

  test('the track reaches from below the edge to twice the super-net', async () => {
    const page = await visit();
    const { tiers } = model;
    const stops = await Promise.all(
      (await page.locator('#stops button').all()).map(async (stop) =>
        Number(await stop.getAttribute('value')),
      ),
    );
    expect(stops).toHaveLength(tiers.length);
    expect(stops).toEqual(stops.toSorted((a, b) => a - b));
    expect(await open.atEnd('Home')).toBeLessThan(stops[0]!);
    expect(await open.atEnd('End')).toBeGreaterThan(1.9 * stops.at(-1)!);
    expect(await page.locator('#stops button').allTextContents()).toEqual(
      tiers.map(({ skip }) => skip),
    );
    await page.locator('#stops button').last().click();
    expect(await page.locator('#budget').getAttribute('aria-valuetext')).toMatch(/^[\d.]+ ms$/);
    expect(Number(await page.locator('#budget-number').inputValue())).toBe(stops.at(-1));
  });

  test('a budget from the track stays on it when it becomes shorter, a typed one stays', async () => {
    const page = await visit();
    // It asks for the model every ten seconds; here the page's time runs ten times as fast.
    await page.evaluate(() => {
      const wait = globalThis.setTimeout;
      globalThis.setTimeout = ((done: () => void, ms: number) =>
        wait(done, ms / 10)) as typeof wait;
    });
    // As this model would be on a machine so many times as slow.
    let slower = 4;
    let left = 0;
    const tiers = () =>
      model.tiers.slice(left).map((tier) => ({ ...tier, budgetMs: tier.budgetMs * slower }));
    await page.route('**/model', (route) => route.fulfill({ json: { ...model, tiers: tiers() } }));
    const end = async () => parseFloat((await open.text('#track-to'))!);
    const field = async () => Number(await page.locator('#budget-number').inputValue());
    const follows = async () => {
      await expect.poll(end, { timeout: 30_000 }).toBe(new Track(tiers()).to);
    };
    await follows();
    await page.locator('#budget').press('End');
    expect(await field()).toBe(await end());
    // A track that was moved a moment ago may still be held; later it follows.
    await page.locator('#floor').focus();
    slower = 1;
    await follows();
    expect(await field()).toBe(await end());
    await open.setBudget(60_000);
    slower = 4;
    await follows();
    expect(await field()).toBe(60_000);
    // Nor does it change where the service comes to choose among others.
    const stops = page.locator('#stops button');
    const shown = await stops.count();
    left = 1;
    await expect.poll(() => stops.count(), { timeout: 30_000 }).toBe(shown - left);
    expect(await field()).toBe(60_000);
    await page.unroute('**/model');
  });

  test('a refusal says what is enough, in no alarming colour, and one click uses it', async () => {
    const page = await visit();
    const below = () => page.locator('#network-title').evaluate((title) => title.offsetTop);
    await open.setBudget(60_000);
    await expect.poll(() => open.verdict()).toContain('within the budget of 60000 ms');
    const withAnswer = await below();
    await open.setBudget(0.1);
    await expect.poll(() => open.verdict()).toContain('Refused at once');
    expect(await below(), 'nothing moves').toBe(withAnswer);
    expect(await open.networkDrawn()).toEqual(['-'.repeat(4)]);
    const colour = (selector: string) =>
      page.evaluate<string>(`getComputedStyle(document.querySelector('${selector}')).color`);
    expect(await colour('#verdict strong')).toBe(await colour('#answer-title'));
    const offered = Number(/Use ([\d.]+) ms/.exec((await open.text('#offer'))!)![1]);
    await page.locator('#offer').click();
    await expect.poll(() => open.verdict(), { timeout: 20_000 }).toMatch(/cat.*the budget of/);
    const used = Number(await page.locator('#budget-number').inputValue());
    expect(used).toBeGreaterThanOrEqual(offered);
  });

  test.each([
    ['is shutting down', '{"code":"draining","detail":"Shutting down."}', 'Shutting down.'],
    ['is behind a proxy that misses it', '<h1>Unavailable</h1>', 'cannot be reached'],
  ])('a service that %s does not lack time', async (_, body, words) => {
    const page = await visit();
    await page.route('**/classify?*', (route) => route.fulfill({ status: 503, body }));
    await open.setBudget(60_000);
    await expect.poll(() => open.verdict()).toContain(words);
    expect(await page.locator('#offer').count()).toBe(0);
  });

  test('works from the keyboard: sample, budget, floor', async () => {
    const page = await visit();
    await page.locator('#samples button').first().press('Enter');
    const { from, to } = new Track(model.tiers);
    expect(await open.atEnd('Home')).toBe(from);
    expect(await open.atEnd('End')).toBe(to);
    await open.setBudget(60_000);
    await page.locator('#floor').focus();
    await page.keyboard.press('End');
    await page.keyboard.press('Tab');
    const best = await page.locator('#floor option').last().textContent();
    await expect.poll(() => open.verdict()).toContain(`expected accuracy ${best}`);
  });

  test.each(['drop', 'paste'] as const)('takes a photo by %s', async (how) => {
    await visit();
    const bytes = await readFile('test/fixtures/pillow/31x33-plain.png');
    await open.give(how, 'mine.png', bytes, 'image/png');
    await expect.poll(() => open.photo()).toBe('mine.png');
    await expect.poll(() => open.text('#curl')).toContain('image=@mine.png');
  });

  test('takes a photo with the camera', async () => {
    const page = await visit({ ...DESKTOP, permissions: ['camera'] });
    await page.locator('#camera').click();
    const width = () =>
      page.evaluate<number>("document.querySelector('#camera-picture').videoWidth");
    await expect.poll(width).toBeGreaterThan(0);
    await page.locator('#camera-take').click();
    await expect.poll(() => open.photo()).toBe('camera.jpg');
    await expect.poll(() => open.verdict(), { timeout: 20_000 }).toMatch(/the budget of|Use/);
  });

  test('opens the camera once, and takes no photo before its first frame', async () => {
    const page = await visit({ ...DESKTOP, permissions: ['camera'] });
    await page.evaluate(`(() => {
      window.streams = 0;
      navigator.mediaDevices.getUserMedia = async () => (streams++, new MediaStream());
      document.querySelector('#camera').click();
      document.querySelector('#camera').click();
    })()`);
    await page.locator('#camera-dialog').waitFor({ state: 'visible' });
    expect(await page.evaluate('streams')).toBe(1);
    expect(await page.locator('#camera-take').isDisabled()).toBe(true);
  });

  test('selects the command where there is no clipboard', async () => {
    const page = await visit();
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })");
    await page.locator('#copy').click();
    await expect.poll(() => open.text('#copy')).toBe('Selected');
    expect(await page.evaluate('getSelection().toString()')).toBe(await open.text('#curl'));
  });

  test('an empty field is no budget', async () => {
    const page = await visit();
    const asked = open.budgets.length;
    await page.locator('#budget-number').fill('');
    await page.locator('#budget-number').press('Enter');
    await page.locator('#again').click();
    await expect.poll(() => open.budgets.length).toBeGreaterThan(asked);
    expect(open.budgets).not.toContain(0);
  });

  test('converts a picture that only the browser can read', async () => {
    await visit();
    const gif = Buffer.from('R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw==', 'base64');
    await open.give('drop', 'dot.gif', gif, 'image/gif');
    await expect.poll(() => open.photo()).toBe('dot.gif');
    await expect.poll(() => open.verdict(), { timeout: 20_000 }).toMatch(/the budget of|Use/);
  });

  test('a file that is no picture: one sentence, and the photo stays', async () => {
    const page = await visit();
    const before = await open.verdict();
    await open.give('drop', 'notes.txt', Buffer.from('hello'), 'text/plain');
    await expect.poll(() => open.text('#photo-note')).toContain('“notes.txt” is not a picture');
    expect(await open.photo()).toBe('A cat');
    expect(await open.verdict()).toBe(before);
    expect((await page.locator('#depths').textContent())!).not.toContain('picture');
  });

  test('names the curl command of what was just done, and it works', async () => {
    await visit();
    await open.setBudget(60_000);
    await expect.poll(() => open.text('#curl')).toContain('60000');
    const command = (await open.text('#curl'))!;
    const answer = execFileSync('sh', ['-c', command], { cwd: 'models/cifar10/samples' });
    expect(JSON.parse(answer.toString())).toMatchObject({ budget: { requestedMs: 60_000 } });
  });

  test('shows all combinations on request', async () => {
    const page = await visit();
    await page.locator('#all-depths').click();
    await expect
      .poll(() => page.locator('#depths tr').count())
      .toBe(model.manifest.subNetworks.length);
    await expect.poll(() => open.depthsFilled(), { timeout: 60_000 }).toBe(true);
  });

  test('beside each depth stands the time that it takes now, not at the start', async () => {
    await visit();
    const { page } = open;
    await page.route('**/model', async (route) => {
      const reply = await route.fetch();
      const told = (await reply.json()) as { tiers: { skip: string }[] };
      const now = told.tiers.map(({ skip }, index) => [skip, { 1: 7 + index }]);
      await route.fulfill({ json: { ...told, latencyNow: Object.fromEntries(now) } });
    });
    await page.reload();
    const column = page.locator('#depths tr td:nth-of-type(3)');
    await expect.poll(() => column.allTextContents()).toContain('7 ms');
    const times = await column.allTextContents();
    expect(times.toSorted()).toEqual(times.map((_, index) => `${7 + index} ms`).toSorted());
  });

  test('shows a model with more stages that comes while the page is open', async () => {
    const page = await visit();
    await page.locator('#floor').selectOption({ index: 1 });
    const floor = await page.locator('#floor').inputValue();
    const manifest = { ...model.manifest, version: 'next', flags: ['1', '2', '3', '4', '5'] };
    await page.route('**/samples/index.json', (route) => route.fulfill({ json: [] }));
    await page.route('**/model', (route) => route.fulfill({ json: { ...model, manifest } }));
    const stages = page.locator('#network svg');
    await expect.poll(() => stages.count(), { timeout: 30_000 }).toBe(5);
    expect(await page.locator('#floor').inputValue()).toBe(floor);
    await expect.poll(() => page.locator('#samples button').count()).toBe(0);
    expect(await open.photo()).toBe('A cat');
  });

  test('shows a second look as a second pass', async () => {
    const page = await visit();
    await page.route('**/classify?*', async (route) => {
      const reply = await route.fetch();
      const answer = (await reply.json()) as Answer;
      const looks: Answer['looks'] = [
        { subNetwork: 'TTTT', confidence: 0.41, atMs: 4.5 },
        { subNetwork: 'FFFF', confidence: 0.93, atMs: 8.75 },
      ];
      const timing = { decodeMs: 1, queueMs: 0.5, inferenceMs: 7, totalMs: 10 };
      await route.fulfill({ response: reply, json: { ...answer, looks, timing } });
    });
    await open.setBudget(60_000);
    await expect.poll(() => open.networkDrawn()).toEqual(['TTTT', 'FFFF']);
    expect(await page.locator('#network figcaption').allTextContents()).toEqual([
      'First look: TTTT, after 4.5 ms, 41.0 % sure',
      'Second look: FFFF, after 8.8 ms, 93.0 % sure',
    ]);
    const phases = ['Decode1 ms', 'Queue0.5 ms', 'First look2.8 ms', 'Second look4.3 ms'];
    expect(await page.locator('#timeline dl div').allTextContents()).toEqual(
      [...phases, 'Rest1.5 ms', 'Total10 ms'].map((text) => expect.stringContaining(text)),
    );
    expect(await open.verdict()).toContain('by TTTT, then FFFF');
    await page.unroute('**/classify?*');
    await open.setBudget(50_000);
    await expect.poll(async () => (await open.networkDrawn()).length).toBe(1);
  });
});
