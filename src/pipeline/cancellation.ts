/**
 * Tells a request's way that nobody waits for the answer any more. An `AbortSignal` would do the
 * same, but costs more than half of what admission does, for each request.
 */
export class Cancellation {
  #reason: Error | null = null;
  #cancelled: ((reason: Error) => void) | null = null;

  /** Null: somebody waits. */
  get reason(): Error | null {
    return this.#reason;
  }

  /** Calls back when it is cancelled; one listener at a time. */
  onCancel(cancelled: (reason: Error) => void): void {
    this.#cancelled = cancelled;
  }

  cancel(reason: Error): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#cancelled?.(reason);
  }
}
