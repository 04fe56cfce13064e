import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Log } from '../src/log.ts';
import type { Model } from '../src/model/manifest.ts';
import type { Service } from '../src/service.ts';
import { Updater } from '../src/updater.ts';
import { CIFAR10, ModelFolder, manifestIn } from './model/folder.ts';

let folder: ModelFolder;
beforeEach(async () => {
  folder = await ModelFolder.create();
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(async () => {
  vi.useRealTimers();
  await folder.remove();
});

/** An updater of a service that takes every version, and what the service is told. */
async function updaterOf() {
  const told = { unchanged: 0, served: [] as string[], rejections: 0, lines: [] as string[] };
  const service = {
    isClosing: false,
    isWarm: true,
    manifest: await manifestIn(folder.path),
    async update(model: Model) {
      told.served.push(model.manifest.version);
      service.manifest = model.manifest;
      await model.close();
    },
    updateEnded(update: object | null) {
      if (update === null) told.unchanged++;
      else told.rejections++;
    },
  };
  const info = (_details: object, line: string) => told.lines.push(line);
  const log = { info, error: () => {} } as unknown as Log;
  const updater = new Updater(service as unknown as Service, folder.path, log);
  return { told, updater };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

test('looks at the start, and then once in each period', async () => {
  const { told, updater } = await updaterOf();
  updater.watch(10);
  await until(() => told.unchanged === 1);
  await folder.put(CIFAR10, { version: '2.0.0' });
  vi.advanceTimersByTime(9_999);
  await immediate();
  expect(told.served).toEqual([]);
  vi.advanceTimersByTime(1);
  await until(() => told.served.length > 0);
  expect(told.served).toEqual(['2.0.0']);
  await updater.stop();
  expect(vi.getTimerCount()).toBe(0);
});

test('with a period of 0 looks at the start, and then only when it is told to', async () => {
  const { told, updater } = await updaterOf();
  updater.watch(0);
  await until(() => told.unchanged === 1);
  expect(vi.getTimerCount()).toBe(0);
  await folder.put(CIFAR10, { version: '2.0.0' });
  updater.reload();
  await until(() => told.served.length > 0);
  expect(told.served).toEqual(['2.0.0']);
});

test('says that nothing changed to who asked, and not at every look', async () => {
  const { told, updater } = await updaterOf();
  updater.watch(10);
  await updater.stop();
  expect(told).toMatchObject({ unchanged: 1, lines: [] });
  updater.reload();
  await updater.stop();
  expect(told).toMatchObject({ unchanged: 2, lines: ['the model folder is unchanged'] });
});

test.each([
  ['', ''],
  [', by a manifest that begins with a byte order mark', '\uFEFF'],
])(
  'a model that is still being copied is rejected once, and served when it is whole%s',
  async (_, mark) => {
    const { told, updater } = await updaterOf();
    await folder.put(CIFAR10, { version: '2.0.0' });
    const manifest = await manifestIn(folder.path);
    await folder.putManifest(`${mark}${JSON.stringify(manifest)}`);
    const file = join(folder.path, manifest.file);
    const whole = await readFile(file);
    for (const length of [1000, 2000, 4000]) {
      await writeFile(file, whole.subarray(0, length));
      // Each start looks, and each stop waits for the look.
      updater.watch(10);
      await updater.stop();
    }
    expect(told.rejections).toBe(1);
    await writeFile(file, whole);
    updater.watch(10);
    await updater.stop();
    expect(told.served).toEqual(['2.0.0']);
  },
);
