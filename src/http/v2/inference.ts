/** An inference by the protocol, however its message came: REST and gRPC share it. */
import { performance } from 'node:perf_hooks';
import type { Classifier } from '../../deployment.ts';
import type { Cancellation } from '../../pipeline/cancellation.ts';
import { isInTime } from '../../telemetry/recorder.ts';
import type { Classified } from '../../telemetry/recorder.ts';
import { rounded } from '../answer.ts';
import type { HeadRequirements } from '../budget.ts';
import type { Serving } from '../serving.ts';
import type { RequestTrace } from '../../tracing/trace.ts';
import { readImages } from './inputs.ts';
import type { Message } from './message.ts';
import { outputsOf, wantedOutputs } from './outputs.ts';
import type { InferResponse } from './schemas.ts';
import { requirementsOf } from './requirements.ts';

export interface InferCall {
  /** When the head arrived, as `performance.now()`. */
  readonly arrivedAt: number;
  /** What it asked for. */
  readonly head: HeadRequirements;
  /** Of the answer, where the message names none. */
  readonly id: string;
  readonly cancellation: Cancellation;
  /** All outputs are wanted in binary. */
  readonly allBinary: boolean;
  /** Null: nobody collects spans. */
  readonly trace: RequestTrace | null;
}

export interface Inferred {
  readonly response: InferResponse;
  /** The bytes of binary outputs, in their order. */
  readonly binary: readonly Buffer[];
  readonly results: readonly Classified[];
  /** ms from arrival to answer. */
  readonly totalMs: number;
}

/**
 * @throws {ServeError} for what is wrong with the message
 * @throws what the deployment throws
 */
export async function infer(
  deployment: Classifier,
  message: Message,
  call: InferCall,
  { config, recorder }: Pick<Serving, 'config' | 'recorder'>,
): Promise<Inferred> {
  const { manifest } = deployment;
  const { json } = message;
  const needs = requirementsOf(call.head, json, manifest, config.DEFAULT_BUDGET_MS);
  call.trace?.asks(needs.budgetMs);
  const wanted = wantedOutputs(json, manifest.labels.length, call.allBinary);
  const input = readImages(message, {
    ...manifest.input,
    maxImages: config.MAX_IMAGES_PER_REQUEST,
  });

  const { arrivedAt, cancellation } = call;
  const imageRequest = { ...needs, arrivedAt, cancellation };
  const results =
    input.kind === 'pixels'
      ? await deployment.classifyPixels(input.images, imageRequest)
      : await deployment.classify(input.images, imageRequest);

  const totalMs = performance.now() - arrivedAt;
  const id = json.id ?? call.id;
  const ids = results.map((_, index) => (results.length === 1 ? id : `${id}-${index}`));
  const { budgetMs } = needs;
  const isPinned = needs.skip !== undefined;
  recorder.answered({ ids, images: results, isPinned, budgetMs, totalMs });
  call.trace?.ran(results, needs.budgetMs);
  const { tensors, binary } = outputsOf(wanted, results, manifest);
  const response = {
    id,
    model_name: manifest.name,
    model_version: manifest.version,
    parameters: parametersOf(results, needs.budgetMs, totalMs),
    outputs: tensors,
  };
  return { response, binary, results, totalMs };
}

function parametersOf(
  results: readonly Classified[],
  budgetMs: number,
  totalMs: number,
): InferResponse['parameters'] {
  const skips = results.map(({ tier }) => tier.skip);
  const most = (of: (result: Classified) => number) => rounded(Math.max(...results.map(of)));
  const accuracy = results.reduce((sum, { tier }) => sum + tier.accuracy, 0) / results.length;
  return {
    sub_network: new Set(skips).size === 1 ? skips[0]! : skips.join(','),
    expected_accuracy: Math.round(accuracy * 1e6) / 1e6,
    confidence: results.map(({ looks }) => looks.at(-1)!.confidence.toFixed(4)).join(','),
    looks: results.map(({ looks }) => looks.map((look) => look.tier.skip).join('>')).join(','),
    budget_ms: budgetMs,
    budget_met: isInTime({ totalMs, budgetMs }),
    predicted_ms: most(({ predictedMs }) => predictedMs),
    actual_ms: rounded(totalMs),
    decode_ms: most(({ decodeMs }) => decodeMs),
    queue_ms: most(({ queueMs }) => queueMs),
    inference_ms: most(({ inferenceMs }) => inferenceMs),
  };
}
