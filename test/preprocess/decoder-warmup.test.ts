import { expect, it } from 'vitest';
import { warmUpDecoders } from '../../src/preprocess/decoder-warmup.ts';

const pool = (decoded: number[]) => ({
  workers: 2,
  decode: async (worker: number) => {
    decoded[worker] = (decoded[worker] ?? 0) + 1;
    return [];
  },
});

it('decodes pictures of every format on every thread before the first request', async () => {
  const decoded: number[] = [];
  const formats = new Set<string>();
  const observe = ({ format }: { format: string }) => formats.add(format);
  await warmUpDecoders(pool(decoded), observe, new AbortController().signal);
  expect(formats).toEqual(new Set(['jpeg', 'png', 'webp']));
  expect(decoded[0]).toBe(decoded[1]);
});

it('stops when the server does', async () => {
  const stopped = AbortSignal.abort(new Error('stop'));
  await expect(warmUpDecoders(pool([]), () => {}, stopped)).rejects.toThrow('stop');
});
