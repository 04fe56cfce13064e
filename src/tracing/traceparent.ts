/** Where a request's caller is in its own trace. */
export interface Caller {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  readonly flags: number;
}

const FORM =
  /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-.*)?$/;

/**
 * Reads a `traceparent` (W3C Trace Context).
 *
 * @returns null for what is none, or is not there: such a request begins a trace of its own.
 */
export function callerOf(traceparent: unknown): Caller | null {
  const [, version, traceId, spanId, flags, more] = FORM.exec(String(traceparent)) ?? [];
  if (version === undefined || (version === '00' && more !== undefined)) return null;
  return { traceId: traceId!, spanId: spanId!, flags: Number.parseInt(flags!, 16) };
}
