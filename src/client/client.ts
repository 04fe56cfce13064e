/**
 * The client for TypeScript and JavaScript, in Node and in browsers. Its types are those that
 * the server validates with and that make up the OpenAPI document, so they cannot drift apart.
 */
import type { Static } from 'typebox';
import type { Answer, Answers, ModelInfo, Problem, Ready } from '../http/schemas.ts';

export type { Answer } from '../http/schemas.ts';
export type Model = Static<typeof ModelInfo>;
export type Readiness = Static<typeof Ready>;
type ProblemDocument = Static<typeof Problem>;

export interface ClassifyOptions {
  /** How long the answer may take, in ms, in the service; absent: the server's default. */
  readonly budgetMs?: number;
  /** Answers expected to be less accurate (0 to 1) are not wanted. */
  readonly minAccuracy?: number;
  /** Deeper sub-networks look until the answer is so sure (0 to 1), as far as the budget allows. */
  readonly minConfidence?: number;
  /** Number of predictions; absent: 5. */
  readonly topK?: number;
  /** Gives up: the server then drops what it has not begun. */
  readonly signal?: AbortSignal;
}

/** The service's answer was an error. */
export class DepthServeError extends Error {
  override readonly name = 'DepthServeError';
  constructor(
    /** Stable, e.g. `overloaded`; see docs/api.md. */
    readonly code: string,
    readonly status: number,
    message: string,
    /** An estimate of the smallest budget that would do now, in ms: add a margin. */
    readonly smallestBudgetMs: number | undefined,
    /** When to try again; absent: not for this reason. */
    readonly retryAfterMs: number | undefined,
  ) {
    super(message);
  }
}

export class DepthServe {
  readonly #url: string;
  readonly #fetch: typeof fetch;

  /** @param url where the service listens, e.g. `http://localhost:8080`. */
  constructor(url: string, options: { readonly fetch?: typeof fetch } = {}) {
    this.#url = url.replace(/\/+$/, '');
    // Browsers let it be called only as a function of their own.
    this.#fetch = options.fetch ?? ((...call) => fetch(...call));
  }

  /**
   * @param image a JPEG, PNG or WebP file.
   * @throws {DepthServeError}
   */
  async classify(image: Blob | Uint8Array<ArrayBuffer>, options: ClassifyOptions = {}) {
    const answer = await this.#post(image, { 'content-type': 'application/octet-stream' }, options);
    return answer as Answer;
  }

  /**
   * Several images under one budget: all are answered, or none.
   *
   * @throws {DepthServeError}
   */
  async classifyAll(
    images: readonly (Blob | Uint8Array<ArrayBuffer>)[],
    options: ClassifyOptions = {},
  ): Promise<Answer[]> {
    const form = new FormData();
    for (const image of images) form.append('image', new Blob([image]), 'image');
    const answer = await this.#post(form, {}, options);
    return 'results' in answer ? answer.results : [answer];
  }

  /** The manifest, the ladder of sub-networks, and what they take here. */
  async model(): Promise<Model> {
    return (await this.#json('/model')) as Model;
  }

  /** Whether the service takes requests, and on what it runs. */
  async ready(): Promise<Readiness> {
    const answer = await this.#fetch(`${this.#url}/health/ready`);
    return (await answer.json()) as Readiness;
  }

  async #post(
    body: Blob | Uint8Array<ArrayBuffer> | FormData,
    headers: Record<string, string>,
    { budgetMs, minAccuracy, minConfidence, topK, signal }: ClassifyOptions,
  ): Promise<Answer | Static<typeof Answers>> {
    const query = topK === undefined ? '' : `?topK=${topK}`;
    return (await this.#json(`/classify${query}`, {
      method: 'POST',
      body,
      signal: signal ?? null,
      headers: {
        ...headers,
        ...(budgetMs !== undefined && { 'x-latency-budget-ms': decimal(budgetMs) }),
        ...(minAccuracy !== undefined && { 'x-min-accuracy': decimal(minAccuracy) }),
        ...(minConfidence !== undefined && { 'x-min-confidence': decimal(minConfidence) }),
      },
    })) as Answer | Static<typeof Answers>;
  }

  async #json(path: string, init?: RequestInit): Promise<unknown> {
    const answer = await this.#fetch(`${this.#url}${path}`, init);
    if (!answer.ok) throw await errorOf(answer);
    return answer.json();
  }
}

/** Without the exponents of small numbers, which the service's headers do not take. */
function decimal(value: number): string {
  return value.toLocaleString('en-US', { useGrouping: false, maximumFractionDigits: 20 });
}

async function errorOf(answer: Response): Promise<DepthServeError> {
  const after = answer.headers.get('retry-after');
  // A proxy may say it as a date.
  const retryAfterMs = after !== null && /^\d+$/.test(after) ? Number(after) * 1000 : undefined;
  const text = await answer.text();
  if (!answer.headers.get('content-type')?.includes('problem+json')) {
    // A proxy between us and the service answered.
    const message = text.slice(0, 200) || answer.statusText;
    return new DepthServeError('not-from-service', answer.status, message, undefined, retryAfterMs);
  }
  const { code, status, detail, smallestBudgetMs } = JSON.parse(text) as ProblemDocument;
  return new DepthServeError(code, status, detail, smallestBudgetMs, retryAfterMs);
}
