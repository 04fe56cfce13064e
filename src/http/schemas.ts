/** The shapes of requests and answers: they validate, and they are the OpenAPI document. */
import type { Static } from 'typebox';
import { Type } from '../json-schema.ts';
import type { SecondLook } from '../scheduler/policy.ts';

export const text = (description: string) => Type.String({ description });
export const number = (description: string) => Type.Number({ description });
export const integer = (description: string) => Type.Integer({ description });
const ms = (description: string) => number(`${description}, in ms`);
const share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description });
/** By sub-network and batch size. */
const table = (description: string) =>
  Type.Record(Type.String(), Type.Record(Type.String(), Type.Number()), { description });

export const Prediction = Type.Object(
  {
    label: Type.String(),
    index: integer('Position of the label in the model'),
    probability: Type.Number({ minimum: 0, maximum: 1 }),
  },
  { title: 'Prediction' },
);

/** Documentation: budget.ts reads them, for errors with codes of their own. */
export const RequestHeaders = Type.Object({
  'x-latency-budget-ms': Type.Optional(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 3_600_000,
      description: 'Latency budget in ms, from the arrival of the request head to the answer',
    }),
  ),
  'x-min-accuracy': Type.Optional(
    share('Answers from sub-networks expected to be less accurate are not wanted'),
  ),
  'x-min-confidence': Type.Optional(
    share('Look deeper until the answer is so sure, as far as the budget allows'),
  ),
  'endpoint-load-metrics-format': Type.Optional(
    Type.Union([Type.Literal('text'), Type.Literal('json')], {
      description: 'Asks for an ORCA load report in the header endpoint-load-metrics',
    }),
  ),
});

export const Answer = Type.Object(
  {
    id: text('The request id; with several images, followed by -0, -1, ...'),
    model: Type.Object({ name: Type.String(), version: Type.String() }),
    predictions: Type.Array(Prediction, { description: 'Most probable first' }),
    confidence: share('Calibrated probability that the first prediction is right'),
    looks: Type.Array(
      Type.Object({
        subNetwork: Type.String(),
        confidence: number('How sure it was, 0 to 1'),
        atMs: ms('When its answer came, from the arrival of the request head'),
      }),
      { description: 'Sub-networks that looked, first one first; the last look counts' },
    ),
    subNetwork: Type.Object({
      skip: text('Skip flags, first stage first; T = second sub-path skipped'),
      expectedAccuracy: number('Top-1 on the held-out split, 0 to 1'),
      macs: integer('Multiply-accumulates'),
    }),
    warning: Type.Optional(text('The file is damaged: parts of the image may be wrong')),
    budget: Type.Object({
      requestedMs: ms('Budget of this request'),
      predictedMs: ms('Predicted when the batch started, from arrival to result'),
      actualMs: ms('From arrival to answer'),
      met: Type.Boolean(),
    }),
    timing: Type.Object({
      decodeMs: ms('Decoding and resizing'),
      queueMs: ms('Waiting for an engine'),
      inferenceMs: ms('From dispatch to result'),
      totalMs: ms('From the arrival of the request head to the answer'),
    }),
  },
  { title: 'Answer' },
);
export type Answer = Static<typeof Answer>;

export const Answers = Type.Object(
  { results: Type.Array(Answer, { description: 'In the order of the images' }) },
  { title: 'Answers' },
);

export const Problem = Type.Object(
  {
    type: text('urn:depthserve:error:<code>'),
    code: text('Stable'),
    title: Type.String(),
    status: Type.Integer(),
    detail: text('What happened, and what to do'),
    requestId: Type.String(),
    smallestBudgetMs: Type.Optional(
      ms('Estimate of the smallest budget that would do now; a caller should add a margin'),
    ),
    image: Type.Optional(integer('Which of several images, from 0')),
  },
  { title: 'Problem', description: 'RFC 9457 problem details' },
);

/** For the `response` of a route: what every status but success is answered with. */
export const errorsAs =
  (type: string, schema: object, description: string) =>
  (...statuses: number[]) =>
    Object.fromEntries(
      statuses.map((status) => [status, { description, content: { [type]: { schema } } }]),
    );

export const problems = errorsAs(
  'application/problem+json',
  Problem,
  'See the code in the problem document',
);

const SubNetwork = Type.Object(
  {
    skip: Type.String(),
    top1: Type.Union([Type.Number(), Type.Null()]),
    top1CI: Type.Union([Type.Array(Type.Number()), Type.Null()]),
    macs: Type.Integer(),
    params: Type.Integer(),
    source: text('measured, published or unmeasured'),
    reference: Type.Optional(Type.String()),
  },
  { title: 'SubNetwork' },
);

export const ModelInfo = Type.Object(
  {
    manifest: Type.Object(
      {
        name: Type.String(),
        version: Type.String(),
        labels: Type.Array(Type.String()),
        subNetworks: Type.Array(SubNetwork, { description: 'All 2^k of them' }),
      },
      { additionalProperties: true, description: 'model.json as it was exported' },
    ),
    tiers: Type.Array(
      Type.Object(
        {
          skip: Type.String(),
          accuracy: Type.Number(),
          macs: Type.Integer(),
          budgetMs: ms('The budget that is enough for it when nothing else waits'),
          again: Type.Optional(
            Type.Unsafe<SecondLook>(
              Type.Object(
                {
                  skip: text('Sub-network of the second look'),
                  bins: Type.Array(Type.Record(Type.String(), Type.Number()), {
                    description: 'below: largest confidence; share of images; first, second: right',
                  }),
                },
                { description: 'What a second look gains, by how sure this one was' },
              ),
            ),
          ),
        },
        { title: 'Tier' },
      ),
      { description: 'The Pareto front measured here, cheapest first; empty until ready' },
    ),
    latency: table('Median ms by sub-network and batch size, measured here at start'),
    latencyNow: table('The same as it is now: slowdown included, and what each entry really took'),
    slowdown: number('Present multiple of the latency table'),
    spread: number('95th percentile of batch times over their median, recently'),
    delayMs: number(
      '95th percentile of the ms that batches took beyond work and typical hold-up, recently',
    ),
    holdUp: number(
      'Median of the time that engines waited for a core, over that of their work, recently',
    ),
    decodeMs: number('Median ms that decoding an image took recently'),
    decoders: integer('Images decoded at the same time'),
    provider: Type.Union([Type.String(), Type.Null()]),
    update: Type.Union(
      [
        Type.Object({
          version: Type.Union([Type.String(), Type.Null()]),
          result: Type.Union([Type.Literal('updated'), Type.Literal('rejected')]),
        }),
        Type.Null(),
      ],
      {
        description:
          'What became of the last version that was found in the model folder beside the one ' +
          'served; the log says why it was rejected. null: none was found, or it is gone',
      },
    ),
    engineWorkers: Type.Integer(),
    maxBatch: Type.Integer(),
  },
  { title: 'ModelInfo' },
);

export const Alive = Type.Object({ status: Type.Literal('live') }, { title: 'Alive' });

const orNull = (description: string) =>
  Type.Union([Type.Number(), Type.Null()], { description: `${description}; null: no answers` });

export const Live = Type.Object(
  {
    now: integer('Seconds since 1970'),
    seconds: Type.Array(
      Type.Object(
        {
          at: integer('Seconds since 1970'),
          tiers: Type.Record(Type.String(), Type.Integer(), {
            description: 'Images answered, by the sub-network that the service chose',
          }),
          pinned: integer('Images answered whose sub-network the caller named'),
          late: integer('Images answered after their deadline'),
          refused: integer('Requests refused or expired for lack of time'),
          accuracy: orNull('Mean expected accuracy of the images answered in time'),
          p50Ms: orNull('Median time from arrival to answer'),
          p99Ms: orNull('99th percentile of it'),
          p50Used: orNull('Median share of the budget used'),
          p99Used: orNull('99th percentile of it'),
          busyMs: number('Time that engines worked on what was answered'),
        },
        { title: 'Second' },
      ),
      { description: 'Oldest first; seconds without requests are missing' },
    ),
  },
  { title: 'Live' },
);

export const Ready = Type.Object(
  {
    status: text('starting, ready, recovering, draining or failed'),
    provider: Type.Union([Type.String(), Type.Null()], { description: 'cuda or cpu' }),
    fallback: Type.Union([Type.String(), Type.Null()], {
      description: 'Why CUDA is not used although EXECUTION_PROVIDER=auto tried it',
    }),
  },
  { title: 'Ready' },
);
