// The service, as the page uses it: /model, /classify, /live, and the Open Inference Protocol
// where a sub-network must be pinned or many images go in one request.

/**
 * @typedef {{ skip: string, accuracy: number, macs: number, budgetMs: number }} Tier
 * @typedef {{
 *   manifest: { name: string, version: string, labels: string[], flags: string[],
 *     input: { width: number, height: number },
 *     subNetworks: { skip: string, macs: number, top1: number | null }[] },
 *   tiers: Tier[], latency: Record<string, Record<string, number>>,
 *   latencyNow: Record<string, Record<string, number>>, provider: string | null,
 *   engineWorkers: number, maxBatch: number }} Model
 * @typedef {{ subNetwork: string, confidence: number, atMs: number }} Look
 * @typedef {{
 *   predictions: { label: string, probability: number }[],
 *   subNetwork: { skip: string, expectedAccuracy: number, macs: number },
 *   budget: { requestedMs: number, predictedMs: number, actualMs: number, met: boolean },
 *   timing: { decodeMs: number, queueMs: number, inferenceMs: number, totalMs: number },
 *   looks: Look[]
 * }} Answer
 * @typedef {{ at: number, tiers: Record<string, number>, late: number, refused: number,
 *   accuracy: number | null, p50Ms: number | null, p99Ms: number | null,
 *   p50Used: number | null, p99Used: number | null }} Second
 * @typedef {{ name: string, file: string, attribution?: string }} Sample
 */

/** Codes of errors that more time would have spared. */
const LACK_OF_TIME = new Set(['budget-too-small', 'overloaded', 'deadline-passed']);

/** The service said no; the message is for people. */
export class Refused extends Error {
  /**
   * @param {number} status of HTTP
   * @param {string} message
   * @param {string} [code] of the service's errors
   * @param {number} [smallestBudgetMs]
   */
  constructor(status, message, code = '', smallestBudgetMs) {
    super(message);
    this.status = status;
    this.code = code;
    this.smallestBudgetMs = smallestBudgetMs;
  }

  /** Whether time was lacking, rather than anything being wrong. */
  get forLackOfTime() {
    return LACK_OF_TIME.has(this.code);
  }
}

/** No answer came, or none of the service: a proxy's page, say. */
export class Unreachable extends Error {}

/** A service that does not answer within this is taken for one that cannot be reached. */
const PATIENCE_MS = 5000;
const inTime = () => AbortSignal.timeout(PATIENCE_MS);

let token = '';

/** @param {string} text for services that ask for one */
export function useToken(text) {
  token = text;
}

/**
 * @param {string} path
 * @param {Omit<RequestInit, 'headers'> & { headers?: Record<string, string> }} [init]
 */
async function send(path, init = {}) {
  const headers = { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) };
  const { answer, body } = await fetchJson(path, { ...init, headers });
  if (answer.ok) return body;
  // The Open Inference Protocol has one sentence, which begins with the code.
  const code = body.code ?? body.error?.split(':')[0];
  throw new Refused(answer.status, body.detail ?? body.error, code, body.smallestBudgetMs);
}

/** @param {string} path @param {RequestInit} [init] @throws {Unreachable} */
async function fetchJson(path, init) {
  try {
    const answer = await fetch(path, init);
    return { answer, body: await answer.json() };
  } catch (cause) {
    throw new Unreachable('The service cannot be reached.', { cause });
  }
}

/** @returns {Promise<Model>} */
export const getModel = () => send('/model', { signal: inTime() });

/** @returns {Promise<Sample[]>} */
export const getSamples = () => send('/samples/index.json');

/** @returns {Promise<{ status: string, provider: string | null }>} */
export async function getStatus() {
  // Not through `send`: 503 is an answer here.
  return (await fetchJson('/health/ready', { signal: inTime() })).body;
}

/**
 * @param {number} since
 * @returns {Promise<{ now: number, seconds: Second[] }>}
 */
export const getLive = (since) => send(`/live?since=${since}`, { signal: inTime() });

/**
 * @param {Blob} photo
 * @param {number} budgetMs
 * @param {number} minAccuracy
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export function classify(photo, budgetMs, minAccuracy, signal) {
  return send('/classify?topK=5', {
    method: 'POST',
    body: photo,
    signal,
    headers: {
      'content-type': 'application/octet-stream',
      'x-latency-budget-ms': String(budgetMs),
      'x-min-accuracy': String(minAccuracy),
    },
  });
}

/**
 * One request of the Open Inference Protocol with a binary tensor.
 *
 * @param {Model} model
 * @param {Record<string, unknown>} tensor shape and datatype
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {Record<string, unknown>} parameters
 * @param {AbortSignal} [signal]
 */
function infer(model, tensor, bytes, parameters, signal) {
  const input = { name: 'image', ...tensor, parameters: { binary_data_size: bytes.length } };
  const outputs = [{ name: 'probabilities', parameters: { classification: 1 } }];
  const head = new TextEncoder().encode(JSON.stringify({ parameters, inputs: [input], outputs }));
  return send(`/v2/models/${encodeURIComponent(model.manifest.name)}/infer`, {
    method: 'POST',
    body: new Blob([head, bytes]),
    headers: {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(head.length),
    },
    ...(signal && { signal }),
  });
}

/**
 * What one sub-network says of a photo, however long it takes.
 *
 * @param {Model} model
 * @param {Blob} photo
 * @param {string} skip
 * @param {AbortSignal} signal
 * @returns {Promise<{ label: string, probability: number }>}
 */
export async function askSubNetwork(model, photo, skip, signal) {
  const file = new Uint8Array(await photo.arrayBuffer());
  const bytes = new Uint8Array(4 + file.length);
  new DataView(bytes.buffer).setUint32(0, file.length, true);
  bytes.set(file, 4);
  const parameters = { skip, latency_budget_ms: 60_000 };
  const body = await infer(model, { shape: [1], datatype: 'BYTES' }, bytes, parameters, signal);
  const [, , ...label] = body.outputs[0].data[0].split(':');
  // Calibrated, as in the answer of /classify; the output itself is the network's own.
  return { label: label.join(':'), probability: Number(body.parameters.confidence) };
}

/**
 * Pixels in the network's size, many times over.
 *
 * @param {Model} model
 * @param {Uint8Array<ArrayBuffer>} pixels of one image
 * @param {number} count
 * @param {number} budgetMs
 * @returns {Promise<string[]>} the sub-network of each image
 */
export async function askMany(model, pixels, count, budgetMs) {
  const { height, width } = model.manifest.input;
  const bytes = new Uint8Array(pixels.length * count);
  for (let index = 0; index < count; index++) bytes.set(pixels, index * pixels.length);
  const tensor = { shape: [count, height, width, 3], datatype: 'UINT8' };
  const { parameters } = await infer(model, tensor, bytes, { latency_budget_ms: budgetMs });
  const skips = parameters.sub_network.split(',');
  return skips.length === count ? skips : Array(count).fill(skips[0]);
}
