import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { once } from 'node:events';

/** A connection whose bytes the test chooses itself. */
export class RawConnection {
  #text = '';

  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1');
    });
    // A reset shows in what came back.
    socket.on('error', () => {});
  }

  static async open(url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url);
    const connection = new RawConnection(
      connect({ host: hostname, port: Number(port), allowHalfOpen: true }),
    );
    await once(connection.socket, 'connect');
    return connection;
  }

  /** Everything that came back until now. */
  get text(): string {
    return this.#text;
  }

  /** @returns when the kernel has taken all of it. */
  send(bytes: string | Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Waits for something to come back. @returns everything that came back until then. */
  async received(what: RegExp): Promise<string> {
    while (!what.test(this.#text)) {
      if (this.socket.readableEnded) throw new Error(`the connection ended after: ${this.#text}`);
      await Promise.race([once(this.socket, 'data'), once(this.socket, 'end')]);
    }
    return this.#text;
  }

  /** @returns everything that came back until the server closed the connection. */
  async ended(): Promise<string> {
    if (!this.socket.destroyed && !this.socket.readableEnded) {
      await Promise.race([once(this.socket, 'end'), once(this.socket, 'close')]);
    }
    return this.#text;
  }
}

/** A request with a body, as bytes. */
export function bytesOf(head: readonly string[], body: Buffer): Buffer {
  const lines = [...head, 'Host: test', `Content-Length: ${body.length}`, '', ''];
  return Buffer.concat([Buffer.from(lines.join('\r\n')), body]);
}

/** A form with `images` in parts named `image`, and its boundary `b`. */
export function formOf(images: readonly Buffer[]): Buffer {
  const head = '--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n';
  return Buffer.concat([
    ...images.flatMap((image) => [Buffer.from(head), image, Buffer.from('\r\n')]),
    Buffer.from('--b--\r\n'),
  ]);
}
