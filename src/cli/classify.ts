import { readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { DepthServe, DepthServeError } from '../client/client.ts';
import type { Answer } from '../client/client.ts';
import { BATCH_SIZES, readConfig } from '../config.ts';
import { fileProblem } from '../errors.ts';
import { answerOf } from '../http/answer.ts';
import { toServeError } from '../http/problem.ts';
import { openModel } from '../model/manifest.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import { Service } from '../service.ts';
import { EXIT, UsageError, progress } from './command.ts';

/** The command line's options. */
export interface ClassifyArguments {
  readonly photos: readonly string[];
  readonly budget: number;
  readonly minAccuracy: number;
  readonly minConfidence: number;
  readonly topK: number;
  readonly url?: string | undefined;
  readonly json: boolean;
  /** The settings. */
  readonly env: NodeJS.ProcessEnv;
}

type Requirements = Pick<ImageRequest, 'budgetMs' | 'minAccuracy'> & {
  readonly minConfidence: number;
  readonly topK: number;
};

/** There is no answer, for lack of time or because of the photo. */
class NoAnswer extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** Of docs/api.md; absent: no service is there to give one. */
    readonly code?: string,
    readonly smallestBudgetMs?: number,
  ) {
    const hint =
      smallestBudgetMs === undefined ? '' : ` A budget of ${smallestBudgetMs} ms would do.`;
    super(message + hint);
  }
}

/**
 * `depthserve classify`: by a running service, or by a model that is loaded for the purpose, which
 * takes seconds before the budget's clock starts.
 *
 * @returns the exit code.
 */
export async function classify(args: ClassifyArguments): Promise<number> {
  const asks: Requirements = {
    budgetMs: within('budget', args.budget, 0.001, 3_600_000),
    minAccuracy: within('min-accuracy', args.minAccuracy, 0, 1),
    minConfidence: within('min-confidence', args.minConfidence, 0, 1),
    topK: within('top-k', args.topK, 1, 1000, 'whole number'),
  };
  const photos = await Promise.all(args.photos.map(readPhoto));
  const url = args.url ?? process.env['DEPTHSERVE_URL'];
  if (url && !/^https?:\/\/./.test(url)) {
    throw new UsageError(`--url must begin with http:// or https://: ${url}`);
  }
  try {
    const answers = await (url ? askService(url, photos, asks) : askModel(photos, asks, args.env));
    answers.forEach((answer, index) => {
      const photo = args.photos[index]!;
      process.stdout.write(
        args.json ? `${JSON.stringify({ photo, ...answer })}\n` : inWords(photo, answer),
      );
    });
    return answers.every(({ budget }) => budget.met) ? EXIT.done : EXIT.late;
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    const { message, status, code, smallestBudgetMs } = error;
    const exitCode = status === 503 || status === 504 ? EXIT.late : EXIT.failed;
    const told = args.json
      ? JSON.stringify({ error: { exitCode, status, code, smallestBudgetMs, message } })
      : `depthserve: ${message}`;
    process.stderr.write(`${told}\n`);
    return exitCode;
  }
}

/** @throws {UsageError} unless `value` is such a number from `from` to `to`. */
function within(
  option: string,
  value: number,
  from: number,
  to: number,
  kind: 'number' | 'whole number' = 'number',
): number {
  const isKind = kind === 'number' || Number.isInteger(value);
  if (isKind && value >= from && value <= to) return value;
  throw new UsageError(`--${option} must be a ${kind} from ${from} to ${to}`);
}

async function readPhoto(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    throw new UsageError(`${path}: ${fileProblem(error)}`, { cause: error });
  }
}

async function askService(
  url: string,
  photos: readonly Uint8Array<ArrayBuffer>[],
  asks: Requirements,
): Promise<readonly Answer[]> {
  try {
    return await new DepthServe(url).classifyAll(photos, asks);
  } catch (error) {
    if (error instanceof DepthServeError) {
      throw new NoAnswer(error.message, error.status, error.code, error.smallestBudgetMs);
    }
    throw new NoAnswer(
      `${url} does not answer (${(error as Error).message}): is a service running there?`,
      502,
    );
  }
}

/** Loads and measures the model as a server would, with no larger batches than are needed. */
async function askModel(
  photos: readonly Uint8Array[],
  asks: Requirements,
  env: NodeJS.ProcessEnv,
): Promise<readonly Answer[]> {
  const config = readConfig(env);
  const batch = BATCH_SIZES.find((size) => size >= photos.length) ?? config.MAX_BATCH;
  const model = await openModel(config.MODEL_DIR);
  const service = new Service(
    { ...config, ENGINE_WORKERS: 1, MAX_BATCH: Math.min(batch, config.MAX_BATCH) },
    model,
    { info() {}, warn() {}, error() {}, fatal() {} },
    () => {},
    (done, of) => progress(`measuring ${done} of ${of} sub-networks …`),
  );
  progress('loading the model …');
  await service.start();
  progress('');
  try {
    const arrivedAt = performance.now();
    const files = photos.map((photo) => Buffer.from(photo.buffer));
    const results = await service.serving().classify(files, { ...asks, arrivedAt });
    const totalMs = performance.now() - arrivedAt;
    return results.map((result, index) =>
      answerOf(String(index), result, asks.budgetMs, totalMs, asks.topK),
    );
  } catch (error) {
    const known = toServeError(error);
    if (known.code === 'internal') throw error;
    throw new NoAnswer(known.detail, known.status, known.code, known.extra['smallestBudgetMs']);
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
