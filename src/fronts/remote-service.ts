import type { Config } from '../config.ts';
import type { Classifier } from '../deployment.ts';
import { ServeError, clientGone } from '../errors.ts';
import type { Cleanup } from '../http/cleanup.ts';
import type { Serving } from '../http/serving.ts';
import type { Manifest } from '../model/manifest.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Entered } from '../service.ts';
import { isInTime } from '../telemetry/recorder.ts';
import type { Answered, Classified, Unanswered } from '../telemetry/recorder.ts';
import type { Calls, FromFront, Outbox, Question, Reply, ToFront } from './messages.ts';

/** Waits for what the main thread says of a request. */
interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** A request that classifies. */
interface Visit {
  readonly id: number;
  /** The main thread knows of it. */
  isKnown: boolean;
  isAnswered: boolean;
  /** Its connection is through with it. */
  isOver: boolean;
}

/** Of a request whose version is not chosen yet: the main thread knows which one serves. */
const UNKNOWN = {} as Manifest;

/** The service as a front has it: it asks the main thread, where everything is decided. */
export class RemoteService implements Serving {
  /** The main thread shuts down. */
  isClosing = false;
  readonly manifest = UNKNOWN;
  /** In the order of their numbers. */
  readonly #versions: Manifest[] = [];
  readonly #waiting = new Map<number, Waiting>();
  /** Which request an answer is of. */
  readonly #idOf = new WeakMap<readonly Classified[], number>();
  #nextId = 0;

  /**
   * @param clockBehind ms that this thread's clock is behind the main thread's.
   * @param unreadMs ms for which requests that this thread reads may have waited before.
   */
  constructor(
    readonly config: Config,
    private readonly outbox: Outbox<FromFront>,
    private readonly clockBehind: number,
    private readonly unreadMs: () => number,
  ) {}

  readonly recorder = {
    answered: ({ images, ...answered }: Answered): 'met' | 'late' => {
      this.outbox.postLater({ type: 'answered', id: this.#idOf.get(images)!, ...answered });
      return isInTime(answered) ? 'met' : 'late';
    },
    unanswered: ({ code, manifest, totalMs }: Unanswered): void => {
      const version = this.#versions.indexOf(manifest);
      this.outbox.postLater({ type: 'unanswered', code, version, totalMs });
    },
  };

  enter(
    asks: ImageRequest | null,
    atClose: Pick<Cleanup, 'push'>,
    canWait: boolean,
  ): Entered | Promise<Entered> {
    const visit: Visit = { id: this.#nextId++, isKnown: false, isAnswered: false, isOver: false };
    atClose.push(() => this.#leave(visit));
    if (visit.isOver) throw clientGone();
    // By the time that it is known to be hopeless, all of it is here: one question less.
    if (canWait) return { deployment: this.#deployment(visit, UNKNOWN), refusal: null };
    return this.#ask(visit, asks);
  }

  /** Has the main thread answer a request. @throws {ServeError} */
  ask(question: Question): Promise<Reply> {
    const id = this.#nextId++;
    this.outbox.post({ type: 'ask', id, ...question });
    return this.#result<'ask'>(id);
  }

  receive(message: ToFront): void {
    if (message.type === 'version') this.#versions.push(message.manifest);
    else if (message.type === 'drain') this.isClosing = true;
    else {
      const { id } = message;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (message.type === 'failed') waiting?.reject(new ServeError(...message.error));
      else waiting?.resolve(message.result);
    }
  }

  /** What is answered to the call about a request that was posted last. */
  #result<Name extends keyof Calls>(id: number): Promise<Calls[Name]['gives']> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
  }

  async #ask(visit: Visit, asks: ImageRequest | null): Promise<Entered> {
    const { id } = visit;
    visit.isKnown = true;
    this.outbox.post({ type: 'enter', id, asks: asks && this.#sent(asks) });
    const { version, refusal } = await this.#result<'enter'>(id);
    // Nothing is kept there for it.
    if (refusal) visit.isKnown = false;
    return { deployment: this.#deployment(visit, this.#versions[version]!), refusal };
  }

  #leave(visit: Visit): void {
    visit.isOver = true;
    if (!visit.isKnown) return;
    const message = { type: 'leave', id: visit.id } as const;
    // Nobody waits to be told that what was answered is over.
    if (visit.isAnswered) this.outbox.postLater(message);
    else this.outbox.post(message);
  }

  #deployment(visit: Visit, manifest: Manifest): Classifier {
    return {
      manifest,
      classify: (files, request) => this.#classify(visit, files, true, request),
      classifyPixels: (images, request) => this.#classify(visit, images, false, request),
    };
  }

  async #classify(
    visit: Visit,
    bytes: readonly Uint8Array[],
    areFiles: boolean,
    request: ImageRequest,
  ): Promise<readonly Classified[]> {
    const { id } = visit;
    if (visit.isOver) throw clientGone();
    visit.isKnown = true;
    const images = bytes.map(transferable);
    const transfer = images.map(({ buffer }) => buffer);
    const sent = this.#sent(request);
    this.outbox.post({ type: 'classify', id, images, areFiles, request: sent }, transfer);
    const result = this.#result<'classify'>(id);
    // That it has left, the main thread is told.
    request.cancellation?.onCancel((reason) => {
      this.#waiting.get(id)?.reject(reason);
      this.#waiting.delete(id);
    });
    const { images: seen, version } = await result;
    visit.isAnswered = true;
    const manifest = this.#versions[version]!;
    // Without stages and the best tier, which only the main thread asks for.
    const classified = seen.map((image) => ({ ...image, manifest }) as Classified);
    this.#idOf.set(classified, id);
    return classified;
  }

  /** A request on the main thread's clock, without what stays here. */
  #sent(request: ImageRequest): ImageRequest {
    const arrivedAt = request.arrivedAt + this.clockBehind;
    return { ...request, arrivedAt, unreadMs: this.unreadMs(), cancellation: undefined };
  }
}

/** Bytes that fill their buffer can be handed over; others share it, and are copied. */
function transferable(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length;
  return isWhole ? new Uint8Array(buffer) : new Uint8Array(bytes);
}
