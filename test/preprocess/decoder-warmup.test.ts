import { expect, it } from 'vitest';
import { warmUpDecoders } from '../../src/preprocess/decoder-warmup.ts';
import { headerOf } from '../../src/preprocess/header.ts';

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
  let observed = 0;
  const observe = ({ format }: { format: string }) => {
    formats.add(format);
    observed += 1;
  };
  const photo = await warmUpDecoders(pool(decoded), observe, new AbortController().signal);
  expect(formats).toEqual(new Set(['jpeg', 'png', 'webp']));
  expect(decoded[0]).toBe(decoded[1]);
  // The first ones say what cold code takes, not what callers will see.
  expect(observed).toBe(decoded[0]!);
  expect(headerOf(photo)).toMatchObject({ format: 'jpeg' });
});

it('stops when the server does', async () => {
  const stopped = AbortSignal.abort(new Error('stop'));
  await expect(warmUpDecoders(pool([]), () => {}, stopped)).rejects.toThrow('stop');
});
