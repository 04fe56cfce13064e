import { expect, it } from 'vitest';
import { createDecoder } from '../../src/preprocess/decode.ts';
import { formatOf } from '../../src/preprocess/header.ts';
import { warmUpDecoder } from '../../src/preprocess/warmup.ts';

const decoder = (onDecoded?: (file: Buffer) => void) =>
  createDecoder({
    height: 32,
    width: 32,
    maxPixels: 1e6,
    ...(onDecoded && { onDecoded }),
  });

it('decodes pictures of every format before the first request', async () => {
  const formats = new Set<string | null>();
  await warmUpDecoder(
    decoder((file) => formats.add(formatOf(file))),
    new AbortController().signal,
  );
  expect(formats).toEqual(new Set(['jpeg', 'png', 'webp']));
});

it('stops when the server does', async () => {
  await expect(warmUpDecoder(decoder(), AbortSignal.abort(new Error('stop')))).rejects.toThrow(
    'stop',
  );
});
