import type { Config } from '../config.ts';
import type { Classifier } from '../deployment.ts';
import { ServeError } from '../errors.ts';
import type { Serving } from '../http/serving.ts';
import type { Manifest } from '../model/manifest.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Entered } from '../service.ts';
import { isInTime } from '../telemetry/recorder.ts';
import type { Answered, Classified, Unanswered } from '../telemetry/recorder.ts';
import type { FromFront, Outbox, Question, Reply, Seen, ToFront } from './messages.ts';

/** Waits for what the main thread says of a request. */
interface Waiting {
  resolve(message: ToFront): void;
  reject(error: Error): void;
}

/** Of a request before any version was chosen for it: the main thread knows which one serves. */
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
   */
  constructor(
    readonly config: Config,
    private readonly outbox: Outbox<FromFront>,
    private readonly clockBehind: number,
  ) {}

  readonly recorder = {
    answered: ({ images, ...answered }: Answered): 'met' | 'late' => {
      this.outbox.post({ type: 'answered', id: this.#idOf.get(images)!, ...answered });
      return isInTime(answered) ? 'met' : 'late';
    },
    unanswered: ({ code, manifest, totalMs }: Unanswered): void => {
      const version = this.#versions.indexOf(manifest);
      this.outbox.post({ type: 'unanswered', code, version, totalMs });
    },
  };

  async enter(asks: ImageRequest | null, atClose: (() => void)[]): Promise<Entered> {
    const id = this.#nextId++;
    this.outbox.post({ type: 'enter', id, asks: asks && this.#sent(asks) });
    atClose.push(() => this.outbox.post({ type: 'leave', id }));
    const { version, refusal } = await this.#answer(id, 'entered');
    return { deployment: this.#deployment(id, this.#versions[version]!), refusal };
  }

  /** Has the main thread answer a request. @throws {ServeError} */
  async ask(question: Question): Promise<Reply> {
    const id = this.#nextId++;
    this.outbox.post({ type: 'ask', id, question });
    return (await this.#answer(id, 'reply')).reply;
  }

  receive(message: ToFront): void {
    if (message.type === 'version') this.#versions.push(message.manifest);
    else if (message.type === 'drain') this.isClosing = true;
    else {
      const { id } = message;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (message.type === 'failed') waiting?.reject(new ServeError(...message.error));
      else waiting?.resolve(message);
    }
  }

  #answer<Type extends ToFront['type']>(id: number, _type: Type) {
    return new Promise<Extract<ToFront, { type: Type }>>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as Waiting['resolve'], reject });
    });
  }

  #deployment(id: number, manifest: Manifest): Classifier {
    return {
      manifest,
      classify: (files, request) => this.#classify(id, manifest, files, true, request),
      classifyPixels: (images, request) => this.#classify(id, manifest, images, false, request),
    };
  }

  async #classify(
    id: number,
    manifest: Manifest,
    bytes: readonly Uint8Array[],
    areFiles: boolean,
    request: ImageRequest,
  ): Promise<readonly Classified[]> {
    const { cancellation } = request;
    if (cancellation?.reason) throw cancellation.reason;
    const images = bytes.map(transferable);
    const transfer = images.map(({ buffer }) => buffer);
    const sent = this.#sent(request);
    this.outbox.post({ type: 'classify', id, images, areFiles, request: sent }, transfer);
    const answer = this.#answer(id, 'classified');
    cancellation?.onCancel((reason) => {
      this.#waiting.get(id)?.reject(reason);
      this.#waiting.delete(id);
    });
    const classified = (await answer).images.map((seen) => shown(seen, manifest));
    this.#idOf.set(classified, id);
    return classified;
  }

  /** A request on the main thread's clock, without what stays here. */
  #sent(request: ImageRequest): ImageRequest {
    const arrivedAt = request.arrivedAt + this.clockBehind;
    return { ...request, arrivedAt, cancellation: undefined };
  }
}

/** Bytes that fill their buffer can be handed over; others share it, and are copied. */
function transferable(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length;
  return isWhole ? new Uint8Array(buffer) : new Uint8Array(bytes);
}

/** What an answer shows; stages and the best tier are asked for by the main thread alone. */
function shown({ looks, ...seen }: Seen, manifest: Manifest): Classified {
  return {
    ...seen,
    manifest,
    looks: looks.map(({ skip, ...look }) => ({ ...look, tier: { ...seen.tier, skip } })),
  } as unknown as Classified;
}
