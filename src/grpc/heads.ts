import { performance } from 'node:perf_hooks';
import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import type { Metadata, ServerInterceptor } from '@grpc/grpc-js';
import type { FastifyBaseLogger } from 'fastify';
import type { Classifier } from '../deployment.ts';
import { ServeError, uploadLate } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { readingSince } from '../event-loop-lag.ts';
import type { Access } from '../http/access.ts';
import { rounded } from '../http/answer.ts';
import { headRequirementsOf } from '../http/budget.ts';
import type { HeadRequirements } from '../http/budget.ts';
import { requestIdOf } from '../http/common-headers.ts';
import type { BytesInFlight } from '../http/bodies.ts';
import { takePatience } from '../http/listening.ts';
import { fromRefusal, toServeError } from '../http/problem.ts';
import type { Service } from '../service.ts';
import { beginTrace } from '../tracing/trace.ts';
import type { RequestTrace, TraceIds, Tracing } from '../tracing/trace.ts';
import { grpcStatus } from './status.ts';

/** What gRPC shares with HTTP: limits, tokens and counts hold for both together. */
export interface GrpcParts {
  readonly service: Service;
  /** Null: anyone may enter. */
  readonly access: Access | null;
  readonly inFlight: BytesInFlight;
  readonly log: FastifyBaseLogger;
  readonly version: string;
  /** Null: nobody collects spans. */
  readonly tracing: Tracing | null;
}

/** Need no token even where others do, as their counterparts of REST. */
const OPEN = /\/Server(Live|Ready)$/;
const INFERS = /\/ModelInfer$/;

/** What is known of a call when its head has come, and kept until it is over. */
export interface Head {
  /** As `performance.now()`. */
  readonly arrivedAt: number;
  readonly id: string;
  /** Of an inference: the version of the model that it is judged and answered by. */
  deployment: Classifier | null;
  /** The deadline, as a budget; absent: none. */
  readonly budgetMs: number | undefined;
  /** What deadline and metadata ask for. */
  needs: HeadRequirements;
  outcome: 'met' | 'late' | ErrorCode | null;
  /** Its message has come, and a handler has it. */
  isTaken: boolean;
  /** Null: nobody collects spans. */
  trace: RequestTrace | null;
  /** For the log. */
  traceIds: TraceIds | null;
  /** Undoes what the call has taken. */
  readonly leave: (() => void)[];
}

/**
 * Stamps each call when its head arrives, and decides what the head alone decides, before the
 * message is read: who may enter, whether the service serves, whether the deadline can be met.
 */
export class Heads {
  readonly #parts: GrpcParts;
  readonly #heads = new WeakMap<Metadata, Head>();
  /** Ends calls whose message has not come. */
  readonly #waiting = new Set<() => void>();
  /** Ends calls whose answer has not been taken; since when it is there. */
  readonly #untaken = new Map<() => void, { readonly since: number; timer: NodeJS.Timeout }>();
  #takeMs: number;
  #underWay = 0;
  #allOver: (() => void) | null = null;

  constructor(parts: GrpcParts) {
    this.#parts = parts;
    this.#takeMs = parts.service.config.REQUEST_TIMEOUT_MS;
  }

  /** For the handler, which says by `over` what becomes of the call. */
  take(metadata: Metadata): Head {
    const head = this.#heads.get(metadata)!;
    head.isTaken = true;
    return head;
  }

  /** Counts and logs what became of an inference. */
  over(head: Head, error: ServeError | null, subNetwork?: string): void {
    const { service, log } = this.#parts;
    const ms = rounded(performance.now() - head.arrivedAt);
    if (error) {
      head.outcome = error.code;
      const { manifest } = head.deployment ?? service;
      service.recorder.unanswered({ code: error.code, manifest, totalMs: ms });
    }
    const { outcome, id: reqId, traceIds } = head;
    log.info({ reqId, ...traceIds, protocol: 'grpc', outcome, subNetwork, ms }, 'classify');
    const code = error ? grpcStatus(error).code : status.OK;
    head.trace?.end({
      outcome,
      isFault: error !== null && error.status >= 500,
      subNetwork,
      attributes: { 'rpc.grpc.status_code': code },
    });
  }

  /** Ends the calls whose message has not come. @returns when the others are over, too. */
  giveUpWaiting(): Promise<void> {
    for (const end of this.#waiting) end();
    this.#takeMs = Math.min(this.#takeMs, takePatience(this.#parts.service.config));
    for (const [end, { since, timer }] of this.#untaken) {
      clearTimeout(timer);
      this.#limitTaking(end, since);
    }
    return new Promise((resolve) => {
      if (this.#underWay === 0) resolve();
      else this.#allOver = resolve;
    });
  }

  get interceptor(): ServerInterceptor {
    return ({ path }, call) => {
      const arrivedAt = readingSince();
      const deadline = Number(call.getDeadline());
      const budgetMs = deadline === Infinity ? undefined : deadline - Date.now();
      const leave: (() => void)[] = [];
      let head: Head | null = null;
      let isRefused = false;
      let isUnderWay = false;
      let stopWaiting = () => {};
      /** The call is over, or its client does not take the answer: nothing is held for it. */
      const end = () => {
        clearTimeout(this.#untaken.get(end)?.timer);
        this.#untaken.delete(end);
        for (const each of leave.splice(0)) each();
        if (isUnderWay && --this.#underWay === 0) this.#allOver?.();
        isUnderWay = false;
      };
      const limitTaking = () => {
        if (isUnderWay && !this.#untaken.has(end)) this.#limitTaking(end, performance.now());
      };
      // What the library answers by itself reaches no interceptor.
      let answered: status | null = null;
      const sendStatus = call.sendStatus.bind(call);
      call.sendStatus = (answer) => {
        answered = answer.code ?? null;
        limitTaking();
        sendStatus(answer);
      };
      const sendMessage = call.sendMessage.bind(call);
      call.sendMessage = (message, done) => {
        limitTaking();
        sendMessage(message, done);
      };
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata, pass) => {
              const id = requestIdOf(metadata.get('x-request-id')[0]?.toString());
              head = {
                arrivedAt,
                id,
                deployment: null,
                budgetMs,
                needs: {},
                leave,
                outcome: null,
                isTaken: false,
                trace: null,
                traceIds: null,
              };
              this.#heads.set(metadata, head);
              this.#underWay++;
              isUnderWay = true;
              const refuse = (thrown: unknown) => {
                isRefused = true;
                const error = toServeError(thrown);
                if (INFERS.test(path)) this.over(head!, error);
                call.sendStatus(grpcStatus(error));
              };
              if (INFERS.test(path)) this.#trace(path, head, metadata);
              try {
                this.#enter(path, head, metadata);
              } catch (thrown) {
                return refuse(thrown);
              }
              stopWaiting = this.#waitForMessage(head, refuse);
              pass(metadata);
            },
            // The message is here.
            onReceiveHalfClose: (pass) => {
              stopWaiting();
              if (!isRefused) pass();
            },
            // Comes when a call is over, however it ended.
            onCancel: () => {
              stopWaiting();
              if (head && !head.isTaken && head.outcome === null && INFERS.test(path)) {
                this.over(head, unread(head, answered));
              }
              end();
            },
          }),
      });
    };
  }

  #limitTaking(end: () => void, since: number): void {
    const ms = Math.max(0, since + this.#takeMs - performance.now());
    this.#untaken.set(end, { since, timer: setTimeout(end, ms) });
  }

  /** Refuses a call whose message takes longer than its budget, or a request. @returns stops that. */
  #waitForMessage({ arrivedAt, budgetMs, needs }: Head, refuse: (late: ServeError) => void) {
    const { REQUEST_TIMEOUT_MS } = this.#parts.service.config;
    const budget = needs.budgetMs ?? budgetMs ?? Infinity;
    const end = () => {
      stop();
      // A timer may be up to 1 ms early.
      const isLate = performance.now() - arrivedAt >= budget - 1;
      refuse(isLate ? uploadLate() : new ServeError('request-timeout', 'The message is not here.'));
    };
    const due = arrivedAt + Math.min(budget, REQUEST_TIMEOUT_MS);
    const timer = setTimeout(end, Math.max(0, Math.ceil(due - performance.now())));
    const stop = () => {
      clearTimeout(timer);
      this.#waiting.delete(end);
    };
    this.#waiting.add(end);
    return stop;
  }

  #trace(path: string, head: Head, metadata: Metadata): void {
    const [traceparent] = metadata.get('traceparent');
    const { trace, ids } = beginTrace(
      this.#parts.tracing,
      traceparent?.toString(),
      path.slice(1),
      { 'rpc.system': 'grpc', 'depthserve.request_id': head.id },
      head.arrivedAt,
    );
    head.trace = trace;
    head.traceIds = ids;
  }

  /** @throws {ServeError} for what the head decides. */
  #enter(path: string, head: Head, metadata: Metadata): void {
    const { access, service } = this.#parts;
    if (access && !OPEN.test(path)) {
      const [authorization] = metadata.get('authorization');
      head.leave.push(access.enter(authorization?.toString()));
    }
    if (!INFERS.test(path)) return;
    if (head.budgetMs !== undefined) head.trace?.asks(head.budgetMs);
    const { arrivedAt, budgetMs: untilDeadline = Infinity } = head;
    head.needs = headRequirementsOf(headersIn(metadata));
    const budgetMs = Math.min(untilDeadline, head.needs.budgetMs ?? Infinity);
    const asks = budgetMs < Infinity ? { arrivedAt, budgetMs, minAccuracy: 0 } : null;
    if (asks) head.needs = { ...head.needs, budgetMs };
    const { deployment, refusal } = service.enter(asks, head.leave);
    head.deployment = deployment;
    if (refusal) throw fromRefusal(refusal);
  }
}

/** Metadata that mean what the headers of HTTP with their names do. */
const HEADERS = ['x-latency-budget-ms', 'x-min-accuracy', 'x-min-confidence'];

/** Values of what is given more than once are joined, as by HTTP. */
function headersIn(metadata: Metadata): Record<string, string> {
  const given = HEADERS.map((name) => [name, metadata.get(name)] as const);
  const present = given.filter(([, values]) => values.length > 0);
  return Object.fromEntries(present.map(([name, values]) => [name, values.join(', ')]));
}

/** A client's deadline comes earlier than ours, by as long as the head was on its way. */
const EARLIER = 0.05;

/** Whether a call ended by its deadline, which the client looks after, too. */
export const isLate = ({ arrivedAt, budgetMs = Infinity }: Head): boolean =>
  performance.now() - arrivedAt >= (1 - EARLIER) * budgetMs - 1;

/** Why a call ended before a handler had its message. */
function unread(head: Head, answered: status | null): ServeError {
  if (isLate(head)) return uploadLate();
  switch (answered) {
    case status.RESOURCE_EXHAUSTED:
      return new ServeError('body-too-large', 'The message is too large.');
    case status.INTERNAL:
      return new ServeError('bad-request', 'The message cannot be read.');
    default:
      return new ServeError('cancelled', 'The client went away before its message was here.');
  }
}
