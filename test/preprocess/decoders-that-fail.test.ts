import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DecoderPool } from '../../src/preprocess/pool.ts';

/** Whether the next thread starts; how many were asked to. */
const threads = vi.hoisted(() => ({ start: true, count: 0, last: null as EventEmitter | null }));

vi.mock('node:worker_threads', async (original) => ({
  ...(await original<object>()),
  Worker: class extends EventEmitter {
    constructor() {
      super();
      threads.count += 1;
      threads.last = this;
      const { start } = threads;
      queueMicrotask(() => {
        if (start) this.emit('message', { type: 'ready' });
        else this.fail();
      });
    }
    fail() {
      this.emit('error', new Error('no library'));
      this.emit('exit', 1);
    }
    terminate = async () => 0;
    postMessage = () => {};
  },
}));

const OPTIONS = { width: 224, height: 224, maxPixels: 1e6 };
const FILE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');

beforeEach(() => {
  vi.useFakeTimers();
  Object.assign(threads, { start: true, count: 0 });
});
afterEach(() => {
  vi.useRealTimers();
});

test('decoders that cannot start are not started again and again', async () => {
  threads.start = false;
  await expect(DecoderPool.start(OPTIONS, 1)).rejects.toThrow('no library');
  await vi.advanceTimersByTimeAsync(1000);
  expect(threads.count).toBe(1);
});

test('one that cannot be replaced is tried again after pauses, and no file is blamed', async () => {
  const pool = await DecoderPool.start(OPTIONS, 1);
  threads.start = false;
  (threads.last as unknown as { fail(): void }).fail();
  const [result] = await pool.decode(0, [FILE]);
  expect(result).toEqual({ error: expect.objectContaining({ message: 'no library' }) });
  await vi.advanceTimersByTimeAsync(1000);
  expect(threads.count).toBeGreaterThan(5);
  expect(threads.count).toBeLessThan(15);
  threads.start = true;
  await vi.advanceTimersByTimeAsync(200);
  const { count } = threads;
  await vi.advanceTimersByTimeAsync(1000);
  expect(threads.count).toBe(count);
  await pool.release();
});
