import { expect, it } from 'vitest';
import { decodePictures, drawPictures } from '../../src/preprocess/decoder-warmup.ts';
import { headerOf } from '../../src/preprocess/header.ts';

const never = new AbortController().signal;

const pool = (decoded: number[]) => ({
  workers: 2,
  decode: async (worker: number) => {
    decoded[worker] = (decoded[worker] ?? 0) + 1;
    return [];
  },
});

it('decodes pictures of every format on every thread before the first request', async () => {
  const decoded: number[] = [];
  const formats: string[] = [];
  const pictures = await drawPictures();
  await decodePictures(pool(decoded), pictures, never, ({ format }) => formats.push(format));
  expect(new Set(formats)).toEqual(new Set(['jpeg', 'png', 'webp']));
  expect(decoded[0]).toBe(decoded[1]);
  expect(formats.length).toBe(decoded[0]! + decoded[1]!);
  expect(headerOf(pictures.jpeg)).toMatchObject({ format: 'jpeg' });
});

it('stops when the server does', async () => {
  const stopped = AbortSignal.abort(new Error('stop'));
  const decoded = decodePictures(pool([]), await drawPictures(), stopped);
  await expect(decoded).rejects.toThrow('stop');
});
