import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import type { BrowserContext, BrowserContextOptions } from 'playwright-core';
import { without } from './tools.ts';

const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';

/** Why the page can't be tested here; null: it can. */
export const noBrowser = without(CHROMIUM, 'run .ci/tools-clients.sh, or set CHROMIUM');

export interface Browser {
  context(options: BrowserContextOptions): Promise<BrowserContext>;
  close(): Promise<void>;
}

/** Headless Chromium with a profile of its own, that talks to nobody by itself. */
export async function launchBrowser(): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), 'depthserve-chromium-'));
  const first = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
    ],
  });
  const browser = first.browser();
  if (!browser) throw new Error('Chromium has no browser object');
  return {
    context: (options) => browser.newContext(options),
    async close() {
      await first.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
