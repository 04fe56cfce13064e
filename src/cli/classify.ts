import { readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { DepthServe, DepthServeError } from '../client/client.ts';
import type { Answer } from '../client/client.ts';
import { BATCH_SIZES, readConfig } from '../config.ts';
import { answerOf } from '../http/answer.ts';
import { toServeError } from '../http/problem.ts';
import { openModel } from '../model/manifest.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import { Service } from '../service.ts';
import { EXIT, UsageError, numberOf, parsed, progress } from './command.ts';
import type { Command } from './command.ts';

const HELP = `Usage: depthserve classify [options] <photo>...

Classifies photos (JPEG, PNG or WebP) under one latency budget: by a running service, or by a
model loaded for the purpose, which takes seconds before the budget's clock starts.

  --budget <ms>        latency budget for all photos together (default: 100)
  --min-accuracy <x>   least expected accuracy, 0 to 1 (default: 0)
  --top-k <n>          number of predictions (default: 3)
  --url <url>          ask the service there (or DEPTHSERVE_URL)
  --json               the answers as JSON, one in a line
`;

const OPTIONS = {
  budget: { type: 'string', default: '100' },
  'min-accuracy': { type: 'string', default: '0' },
  'top-k': { type: 'string', default: '3' },
  url: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

type PhotoRequest = Pick<ImageRequest, 'budgetMs' | 'minAccuracy'> & { readonly topK: number };

/** There is no answer, for lack of time or because of the photo. */
class NoAnswer extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** `depthserve classify`. */
export const command: Command = {
  help: HELP,
  async run(args) {
    const { values, positionals } = parsed(args, OPTIONS);
    if (positionals.length === 0) throw new UsageError('classify needs at least one photo');
    const request: PhotoRequest = {
      budgetMs: numberOf('budget', values.budget, 0.001, 3_600_000),
      minAccuracy: numberOf('min-accuracy', values['min-accuracy'], 0, 1),
      topK: numberOf('top-k', values['top-k'], 1, 1000),
    };
    const photos = await Promise.all(positionals.map(readPhoto));
    const url = values.url ?? process.env['DEPTHSERVE_URL'];
    try {
      const answers = await (url ? askService(url, photos, request) : askModel(photos, request));
      answers.forEach((answer, index) => {
        const photo = positionals[index]!;
        process.stdout.write(
          values.json ? `${JSON.stringify({ photo, ...answer })}\n` : inWords(photo, answer),
        );
      });
      return answers.every(({ budget }) => budget.met) ? EXIT.done : EXIT.late;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      process.stderr.write(`depthserve: ${error.message}\n`);
      return error.status === 503 || error.status === 504 ? EXIT.late : EXIT.failed;
    }
  },
};

async function readPhoto(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function askService(
  url: string,
  photos: readonly Uint8Array<ArrayBuffer>[],
  request: PhotoRequest,
): Promise<readonly Answer[]> {
  try {
    return await new DepthServe(url).classifyAll(photos, request);
  } catch (error) {
    if (error instanceof DepthServeError) throw new NoAnswer(error.message, error.status);
    throw new NoAnswer(`${url} does not answer: ${(error as Error).message}`, 502);
  }
}

/** Loads and measures the model as a server would, with no larger batches than are needed. */
async function askModel(
  photos: readonly Uint8Array[],
  request: PhotoRequest,
): Promise<readonly Answer[]> {
  const config = readConfig();
  const batch = BATCH_SIZES.find((size) => size >= photos.length) ?? config.MAX_BATCH;
  const model = await openModel(config.MODEL_DIR);
  const service = new Service(
    { ...config, ENGINE_WORKERS: 1, MAX_BATCH: Math.min(batch, config.MAX_BATCH) },
    model,
    { info() {}, warn() {}, error() {}, fatal() {} },
    () => {},
  );
  progress('loading and measuring the model …');
  await service.start();
  progress('');
  try {
    const arrivedAt = performance.now();
    const files = photos.map((photo) => Buffer.from(photo.buffer));
    const results = await service.serving().classify(files, { ...request, arrivedAt });
    const totalMs = performance.now() - arrivedAt;
    return results.map((result, index) =>
      answerOf(String(index), result, request.budgetMs, totalMs, request.topK),
    );
  } catch (error) {
    const known = toServeError(error);
    if (known.code === 'internal') throw error;
    const enough = known.extra['smallestBudgetMs'];
    const hint = enough === undefined ? '' : ` A budget of ${enough} ms would do.`;
    throw new NoAnswer(`${known.detail}${hint}`, known.status);
  } finally {
    await service.close();
  }
}

function inWords(photo: string, { predictions, subNetwork, budget }: Answer): string {
  const lines = predictions.map(
    ({ label, probability }) => `  ${(probability * 100).toFixed(1).padStart(5)} %  ${label}`,
  );
  const kept = budget.met ? 'within' : 'over';
  return (
    `${photo}\n${lines.join('\n')}\n` +
    `  by ${subNetwork.skip} in ${budget.actualMs.toFixed(1)} ms, ${kept} the budget of ${budget.requestedMs} ms\n`
  );
}
