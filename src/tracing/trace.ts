/** What requests know of tracing, whether it is on or not. */
import type { Classified } from '../telemetry/recorder.ts';
import { callerOf } from './traceparent.ts';
import type { Caller } from './traceparent.ts';

/** As the log names them. */
export interface TraceIds {
  readonly trace_id: string;
  readonly span_id: string;
}

export interface RequestEnd {
  readonly outcome: string | null;
  /** The service's, not the caller's. */
  readonly isFault: boolean;
  readonly subNetwork?: string | undefined;
  readonly attributes?: Readonly<Record<string, string | number>>;
}

/** The span of one request. Times are those of `performance.now()`. */
export interface RequestTrace {
  readonly ids: TraceIds;
  /** Its budget is known. */
  asks(budgetMs: number): void;
  /** Its images were answered: each leaves a span for every stage. */
  ran(results: readonly Classified[], budgetMs: number): void;
  end(how: RequestEnd): void;
}

export interface Tracing {
  begin(
    name: string,
    attributes: Readonly<Record<string, string | number>>,
    arrivedAt: number,
    caller: Caller | null,
  ): RequestTrace;
  /** Sends what has not left yet. */
  close(): Promise<void>;
}

/**
 * Begins the span of a request, where tracing is on.
 *
 * @param traceparent the caller's header, if any.
 * @returns with it, the ids for the log: those of the span, or, without tracing, the caller's.
 */
export function beginTrace(
  tracing: Tracing | null,
  traceparent: unknown,
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  arrivedAt: number,
): { readonly trace: RequestTrace | null; readonly ids: TraceIds | null } {
  const caller = traceparent === undefined ? null : callerOf(traceparent);
  if (!tracing) {
    const ids = caller && { trace_id: caller.traceId, span_id: caller.spanId };
    return { trace: null, ids };
  }
  const trace = tracing.begin(name, attributes, arrivedAt, caller);
  return { trace, ids: trace.ids };
}
