/**
 * Every error that a caller can see, by its stable code: HTTP status, title, and what to do.
 * Answers are problem+json (RFC 9457) with `type` = `urn:depthserve:error:<code>`.
 */
export const ERRORS = {
  'no-image': [400, 'No image', 'Send the image as the body, or as multipart field "image".'],
  'bad-budget': [
    400,
    'Bad latency budget',
    'Send X-Latency-Budget-Ms once, as a number of milliseconds above 0 and at most 3600000.',
  ],
  'bad-min-accuracy': [
    400,
    'Bad accuracy floor',
    'Send X-Min-Accuracy once, as a number from 0 to 1.',
  ],
  'bad-min-confidence': [
    400,
    'Bad confidence',
    'Send X-Min-Confidence once, as a number from 0 to 1.',
  ],
  'bad-multipart': [
    400,
    'Malformed multipart body',
    'Send multipart/form-data with a boundary, as browsers and "curl -F" do.',
  ],
  'unknown-label': [400, 'No such label', 'GET /model lists the labels.'],
  unauthorized: [401, 'Token missing or unknown', 'Send Authorization: Bearer <token>.'],
  'too-many-requests': [429, 'Too many requests', 'Retry after the Retry-After header.'],
  'unknown-request': [
    404,
    'Unknown request id',
    'Give feedback once, soon, and to the replica that answered; see docs/operations.md.',
  ],
  // With INTERNAL_PORT there is no GET /docs on the port that callers know.
  'bad-request': [
    400,
    'Bad request',
    'docs/openapi.json, shown at GET /docs where that is served, says what each route takes.',
  ],
  'not-found': [
    404,
    'No such route',
    'docs/openapi.json, shown at GET /docs where that is served, lists the routes.',
  ],
  'no-such-model': [404, 'No such model', 'GET /model names the model that is served.'],
  'expectation-failed': [417, 'Expectation not met', 'Send Expect: 100-continue, or none.'],
  'method-not-allowed': [405, 'Method not allowed', 'Use a method that the Allow header names.'],
  'request-timeout': [408, 'Request too slow', 'Send the whole request faster.'],
  'not-offered': [400, 'Not offered here', 'GET /v2 lists the extensions that are.'],
  'bad-tensor': [400, 'Bad tensor', 'GET /v2/models/<model> says which tensors are taken.'],
  'bad-skip': [400, 'No such sub-network', 'GET /model lists the sub-networks.'],
  'body-too-large': [413, 'Body too large', 'Send fewer or smaller images.'],
  'too-many-pixels': [413, 'Image has too many pixels', 'Scale the image down before sending it.'],
  'too-many-images': [413, 'Too many images', 'Spread the images over several requests.'],
  'unsupported-media-type': [
    415,
    'Unsupported media type',
    'Send image/jpeg, image/png, image/webp, application/octet-stream or multipart/form-data.',
  ],
  'not-an-image': [422, 'Not an image', 'Send a JPEG, PNG or WebP file.'],
  'truncated-image': [422, 'Image is cut off', 'Send the whole file.'],
  'accuracy-unavailable': [
    422,
    'No sub-network is that accurate',
    'Lower the accuracy floor (X-Min-Accuracy or min_accuracy); GET /model lists the accuracies.',
  ],
  // Never answered, for nobody is there to read it; it counts in the metrics and the log.
  cancelled: [499, 'Client closed the request', 'Nothing to do.'],
  'headers-too-large': [
    431,
    'Request head too large',
    'Send a shorter URL, or shorter or fewer headers.',
  ],
  internal: [500, 'Internal error', 'Report the request id to the operators of this service.'],
  'budget-too-small': [
    503,
    'Budget too small',
    'Send a budget of at least smallestBudgetMs, which is mostly enough; the same budget fails again.',
  ],
  overloaded: [
    503,
    'Overloaded',
    'Retry after the Retry-After header, or send a budget of at least smallestBudgetMs.',
  ],
  'engine-failed': [503, 'Inference failed', 'Retry; the service may be restarting its engine.'],
  starting: [503, 'Starting', 'Retry when GET /health/ready says so.'],
  draining: [503, 'Shutting down', 'Retry; another replica will answer.'],
  'deadline-passed': [504, 'Budget ran out', 'Retry with a larger budget.'],
} as const satisfies Record<string, readonly [status: number, title: string, advice: string]>;

export type ErrorCode = keyof typeof ERRORS;

/** The HTTP status of a code: from 500 on, the service is at fault. */
export const statusOf = (code: ErrorCode): number => ERRORS[code][0];

/** What an error may have beside its code and detail. */
interface Details {
  /** Further members of the problem document. */
  readonly extra?: Readonly<Record<string, number>>;
  /** When to try again, for the Retry-After header. */
  readonly retryAfterMs?: number;
  /** Instead of the table's, where that does not fit. */
  readonly advice?: string;
}

/** What an error is made of: as such it can go to another thread. */
export type ErrorParts = readonly [code: ErrorCode, detail: string, more: Details];

/** A failure with a code of the table above; thrown anywhere, answered in one place. */
export class ServeError extends Error {
  override readonly name = 'ServeError';
  readonly status: number;
  readonly extra: Readonly<Record<string, number>>;
  readonly retryAfterMs: number | undefined;

  /** @param detail what happened this time, a full sentence. */
  constructor(
    readonly code: ErrorCode,
    readonly detail: string,
    private readonly more: Details & ErrorOptions = {},
  ) {
    // An answer, not a fault: where it came from matters to nobody (what caused it keeps its own
    // stack), and under overload it would cost more than the decision to refuse.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(`${code}: ${detail}`, more);
    Error.stackTraceLimit = stackTraceLimit;
    this.status = ERRORS[code][0];
    this.extra = more.extra ?? {};
    this.retryAfterMs = more.retryAfterMs;
  }

  /** What happened, and what to do. */
  get explanation(): string {
    return explain(this.code, this.detail, this.more.advice);
  }

  /** Without its cause, which is for the log. */
  get parts(): ErrorParts {
    const { cause: _cause, ...more } = this.more;
    return [this.code, this.detail, more];
  }
}

/** What happened, and what to do: by default as the table says. */
export const explain = (code: ErrorCode, detail: string, advice: string = ERRORS[code][2]) =>
  `${detail} ${advice}`;

/** Why a file cannot be used, for people. */
export function fileProblem(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const known: Record<string, string> = {
    ENOENT: 'there is no such file or folder',
    EISDIR: 'it is a folder, not a file',
    EACCES: 'access is not allowed',
  };
  return known[code ?? ''] ?? message;
}

/** A body that has not come, or came too late. */
export const uploadLate = () =>
  new ServeError('deadline-passed', 'The upload took longer than the budget.');

/** Nobody waits for the answer any more. */
export const clientGone = () =>
  new ServeError('cancelled', 'The client went away before the answer.');

/** The RFC 9457 document that answers `error`. */
export function problemOf(
  error: Pick<ServeError, 'code' | 'explanation' | 'extra'>,
  requestId: string,
) {
  const [status, title] = ERRORS[error.code];
  return {
    type: `urn:depthserve:error:${error.code}`,
    code: error.code,
    title,
    status,
    detail: error.explanation,
    requestId,
    ...error.extra,
  };
}

/** The same in one sentence, which is all that an error of the Open Inference Protocol has. */
export function sentenceOf(error: ServeError): string {
  const extra = Object.entries(error.extra).map(([name, value]) => ` ${name}: ${value}.`);
  return `${error.code}: ${error.explanation}${extra.join('')}`;
}
