import type { VirtualClock } from '../bench/simulator/clock.ts';
import { PIXELS_PER_MS } from '../bench/simulator/run.ts';
import type { Profile } from '../bench/simulator/tables.ts';
import type { DeploymentParts } from '../src/deployment.ts';
import { ServeError } from '../src/errors.ts';
import type { Confidence, Manifest } from '../src/model/manifest.ts';
import { DecodeTimes } from '../src/pipeline/decode-times.ts';
import { headerOf } from '../src/preprocess/header.ts';
import { MeasuredLatency } from '../src/scheduler/latency.ts';
import type { Tier } from '../src/scheduler/policy.ts';
import { Metrics } from '../src/telemetry/metrics.ts';
import { notWarm } from '../src/telemetry/status.ts';

export interface FakeOptions {
  readonly engines?: number;
  readonly decoders?: number;
  /** Engines take so many times as long as in the table at this time. */
  readonly slowdown?: (at: number) => number;
  readonly dispatched?: (tier: Tier, size: number) => void;
  /** Of the manifest; absent: it has none. */
  readonly confidence?: Confidence;
  readonly looksAgain?: boolean;
  /** What was released, in order. */
  readonly released?: string[];
}

/**
 * Parts of a deployment on a virtual clock: its engine takes as long as the table says and answers
 * with the second of two labels, the surer the larger the first byte of the image; its decoders as long as the pixels in a file's head say.
 */
export function fakeParts(
  profile: Profile,
  clock: VirtualClock,
  options: FakeOptions = {},
): DeploymentParts {
  const { engines = 1, decoders = 1, slowdown = () => 1, dispatched, released = [] } = options;
  const { confidence, looksAgain = true } = options;
  const { name, tiers } = profile;
  const subNetworks = tiers.map(({ skip, accuracy, macs }) => ({ skip, macs, top1: accuracy }));
  const input = { height: 1, width: 1 };
  const labels = ['a', 'b'];
  const parts = {
    name,
    version: '1',
    labels,
    input,
    subNetworks,
    ...(confidence && { confidence }),
  };
  const manifest = parts as unknown as Manifest;
  const truth = new MeasuredLatency(profile.latency);
  const after = <T>(ms: number, result: T): Promise<T> =>
    new Promise((resolve) => clock.at(clock.now() + ms, () => resolve(result)));
  const status = { state: 'ready', update: null, deployment: notWarm(manifest) } as const;
  return {
    model: { manifest, close: async () => void released.push('model') },
    table: profile.latency,
    maxBatch: profile.maxBatch,
    clock,
    decodeTimes: new DecodeTimes(),
    metrics: new Metrics(name, () => status),
    looksAgain,
    startShadow: null,
    engine: {
      provider: 'cpu',
      imageBytes: 3,
      fallback: null,
      threadsEach: 0,
      workers: engines,
      working: engines,
      healthy: true,
      run(_worker, tier, inputs) {
        dispatched?.(tier, inputs.length);
        const workMs = truth.predict(tier, inputs.length) * slowdown(clock.now());
        return after(workMs, {
          outputs: inputs.map(([first]) => Float32Array.of(0, first! / 32)),
          workMs,
        });
      },
      release: async () => void released.push('engine'),
    },
    decoder: {
      workers: decoders,
      decode(_worker, files) {
        const decoded = files.map((file) => {
          const header = headerOf(file as Buffer);
          if (!header) return { error: new ServeError('not-an-image', 'No image.'), ms: 0 };
          return { pixels: Uint8Array.of(32, 0, 0), ms: header.pixels / PIXELS_PER_MS };
        });
        return after(
          decoded.reduce((sum, { ms }) => sum + ms, 0),
          decoded,
        );
      },
      release: async () => void released.push('decoders'),
    },
  };
}

/** The head of a JPEG file of so many pixels, a multiple of 1000. */
export function jpegOf(pixels: number): Buffer {
  const file = Buffer.alloc(16);
  file.writeUInt32BE(0xffd8ffc0);
  file.writeUInt16BE(pixels / 1000, 7);
  file.writeUInt16BE(1000, 9);
  return file;
}
