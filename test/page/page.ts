import type { BrowserContextOptions, Page } from 'playwright-core';
import { expect } from 'vitest';
import type { Browser } from '../browser.ts';

export const DESKTOP = { viewport: { width: 1280, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
export const NARROW = { viewport: { width: 320, height: 640 } };
/** A desktop at 200 % zoom. */
export const ZOOMED = { viewport: { width: 640, height: 450 }, deviceScaleFactor: 2 };

/** The page of a server, open in a browser. */
export class OpenPage {
  /** Console errors, exceptions, failed requests, and requests to anyone but the service. */
  readonly complaints: string[] = [];
  /** Of each request to /classify, in ms. */
  readonly budgets: number[] = [];

  private constructor(
    readonly page: Page,
    readonly url: string,
  ) {}

  /**
   * @param options the browser's, and `model`: what `/model` says, instead of the server's own.
   * @param isQuiet false: without waiting until everything is drawn.
   */
  static async open(
    browser: Browser,
    url: string,
    { model, ...options }: BrowserContextOptions & { model?: unknown } = {},
    isQuiet = true,
  ): Promise<OpenPage> {
    const context = await browser.context({ reducedMotion: 'reduce', ...DESKTOP, ...options });
    const page = await context.newPage();
    if (model) await page.route('**/model', (route) => route.fulfill({ json: model }));
    const opened = new OpenPage(page, url);
    page.on('console', (message) => {
      // A refusal is an answer; Chromium reports its status as an error all the same.
      if (message.type() === 'error' && !/status of 50[34]/.test(message.text())) {
        opened.complaints.push(message.text());
      }
    });
    page.on('pageerror', (error) => opened.complaints.push(String(error)));
    page.on('request', (request) => {
      const { protocol, origin, pathname } = new URL(request.url());
      if (pathname === '/classify') {
        opened.budgets.push(Number(request.headers()['x-latency-budget-ms']));
      }
      if (protocol === 'http:' && origin !== url) opened.complaints.push(request.url());
    });
    await page.goto(`${url}/`);
    // The table is the last that is filled.
    if (isQuiet) await expect.poll(() => opened.depthsFilled(), { timeout: 60_000 }).toBe(true);
    return opened;
  }

  async depthsFilled(): Promise<boolean> {
    const cells = await this.page.locator('#depths td').allTextContents();
    return cells.length > 0 && !cells.includes('…');
  }

  /** Types a budget, and waits for what the service makes of it. */
  async setBudget(ms: number): Promise<void> {
    const answered = this.page.waitForResponse((response) => response.url().includes('/classify'));
    await this.page.locator('#budget-number').fill(String(ms));
    await this.page.locator('#budget-number').press('Enter');
    await answered;
  }

  /** The budget at an end of the track, reached by its key. */
  async atEnd(key: 'Home' | 'End'): Promise<number> {
    await this.page.locator('#budget').press(key);
    return Number(await this.page.locator('#budget-number').inputValue());
  }

  text(selector: string): Promise<string | null> {
    return this.page.locator(selector).textContent();
  }

  verdict(): Promise<string | null> {
    return this.text('#verdict');
  }

  photo(): Promise<string | null> {
    return this.page.locator('#preview').getAttribute('alt');
  }

  /** Skip flags of the network as it is drawn, one for each pass. */
  async networkDrawn(): Promise<readonly string[]> {
    return this.page.locator('#network .pass').evaluateAll((passes) =>
      passes.map((pass) =>
        [...pass.querySelectorAll('svg')]
          .map((stage) => {
            const ran = stage.getAttribute('data-ran');
            return ran === 'full' ? 'F' : ran === 'short' ? 'T' : '-';
          })
          .join(''),
      ),
    );
  }

  /** Hands the page a file as a drop or a paste does. */
  async give(type: 'drop' | 'paste', name: string, bytes: Uint8Array, mime: string): Promise<void> {
    await this.page.evaluate(
      `(() => {
        const transfer = new DataTransfer();
        const content = new Uint8Array(${JSON.stringify([...bytes])});
        transfer.items.add(new File([content], ${JSON.stringify(name)}, { type: '${mime}' }));
        const event = '${type}' === 'drop'
          ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
          : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true });
        document.querySelector('#drop').dispatchEvent(event);
      })()`,
    );
  }

  async close(): Promise<void> {
    await this.page.context().close();
    expect(this.complaints, 'what the browser complains of').toEqual([]);
  }
}
