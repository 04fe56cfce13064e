/**
 * One decoder: a thread that turns image files into pixels, so that neither the work nor its
 * set-up cost is the business of the thread that speaks HTTP.
 */
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { ServeError } from '../errors.ts';
import { createDecoder } from './decode.ts';
import type { DecoderOptions, FileResult, FromDecoder, ToDecoder } from './decoder-messages.ts';

const options = workerData as DecoderOptions;
const decode = createDecoder(options);
const imageBytes = options.height * options.width * 3;
const port = parentPort!;

async function decodeInto(pixels: Uint8Array, file: Uint8Array): Promise<FileResult> {
  const started = performance.now();
  try {
    const warning = await decode(Buffer.from(file.buffer, file.byteOffset, file.length), pixels);
    return { ms: performance.now() - started, warning };
  } catch (error) {
    if (error instanceof ServeError) return { code: error.code, detail: error.detail };
    return { fault: String(error) };
  }
}

async function run({ files }: ToDecoder): Promise<void> {
  const pixels = new Uint8Array(files.length * imageBytes);
  const results: FileResult[] = [];
  for (const [index, file] of files.entries()) {
    const mine = pixels.subarray(index * imageBytes, (index + 1) * imageBytes);
    results.push(await decodeInto(mine, file));
  }
  const { buffer } = pixels;
  port.postMessage({ type: 'decoded', results, pixels: buffer } satisfies FromDecoder, [buffer]);
}

port.on('message', (message: ToDecoder) => void run(message));
port.postMessage({ type: 'ready' } satisfies FromDecoder);
