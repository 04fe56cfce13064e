import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launchBrowser, noBrowser } from './browser.ts';
import type { Browser } from './browser.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

describe.skipIf(noBrowser)('the page of the interface, GET /docs', () => {
  let server: Server;
  let browser: Browser;
  beforeAll(async () => {
    server = await startServer();
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });

  test('works by plain HTTP under a name that browsers do not trust as they do localhost', async () => {
    const origin = 'http://depthserve.test';
    const context = await browser.context({});
    await context.route(`${origin}/**`, async (route) => {
      const url = route.request().url().replace(origin, server.url);
      await route.fulfill({ response: await route.fetch({ url }) });
    });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    await page.goto(`${origin}/docs`);
    const operation = page.locator('#operations-default-isLive');
    await operation.click();
    await operation.getByText('Try it out').click();
    await operation.getByText('Execute').click();
    const answer = operation.locator('.live-responses-table .response .response-col_status');
    expect(await answer.textContent()).toContain('200');
    expect(complaints).toEqual([]);
    await context.close();
  });
});
