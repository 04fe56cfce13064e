import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import turbo from '@julusian/jpeg-turbo';
import * as ort from 'onnxruntime-node';
import { median } from '../median.ts';

interface Manifest {
  readonly file: string;
  readonly flags: readonly string[];
  readonly input: { readonly name: string; readonly height: number; readonly width: number };
}

const MEASURED_MS = 600;

/** Processor time, ms per image, of nothing but the work itself, one thread, nothing else running. */
export class Limit {
  private constructor(
    private readonly manifest: Manifest,
    private readonly session: ort.InferenceSession,
  ) {}

  static async of(folder: string): Promise<Limit> {
    const manifest = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as Manifest;
    const session = await ort.InferenceSession.create(join(folder, manifest.file), {
      intraOpNumThreads: 1,
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    });
    return new Limit(manifest, session);
  }

  /** Raw onnxruntime on a batch. */
  async inference(skip: string, batch: number): Promise<number> {
    const feeds = this.#feeds(skip, batch);
    return (await cpuOf(() => this.session.run(feeds, ['logits']))) / batch;
  }

  /**
   * Decoding and inference of one image at a time, at an even rate: between two of them caches are
   * lost and the processor sleeps, as with a server at low load.
   *
   * @returns median ms by the clock.
   */
  async paced(image: Buffer, skip: string, perSecond: number, seconds: number): Promise<number> {
    const feeds = this.#feeds(skip, 1);
    const scratch = Buffer.alloc(16 * 1024 * 1024);
    const taken: number[] = [];
    const began = performance.now();
    for (let next = began; next < began + 1000 * seconds; next += 1000 / perSecond) {
      await sleep(Math.max(0, next - performance.now()));
      const started = performance.now();
      turbo.decompressSync(image, scratch, { format: turbo.FORMAT_RGB });
      await this.session.run(feeds, ['logits']);
      taken.push(performance.now() - started);
    }
    return median(taken);
  }

  #feeds(skip: string, batch: number): Record<string, ort.Tensor> {
    const { input, flags } = this.manifest;
    const size = batch * input.height * input.width * 3;
    const pixels = Uint8Array.from({ length: size }, (_, i) => (i * 31) % 256);
    const feeds: Record<string, ort.Tensor> = {
      [input.name]: new ort.Tensor('uint8', pixels, [batch, input.height, input.width, 3]),
    };
    flags.forEach((name, i) => {
      feeds[name] = new ort.Tensor('bool', Uint8Array.of(Number(skip[i] === 'T')), []);
    });
    return feeds;
  }

  /** libjpeg-turbo alone, without resizing. */
  async decode(image: Buffer): Promise<number> {
    const scratch = Buffer.alloc(16 * 1024 * 1024);
    return cpuOf(async () => {
      turbo.decompressSync(image, scratch, { format: turbo.FORMAT_RGB });
    });
  }
}

/** Processor time of one call, ms, all threads of this process. */
async function cpuOf(call: () => Promise<unknown>): Promise<number> {
  for (let i = 0; i < 20; i++) await call();
  const began = performance.now();
  const before = process.cpuUsage();
  let calls = 0;
  for (; performance.now() - began < MEASURED_MS; calls++) await call();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / calls;
}
