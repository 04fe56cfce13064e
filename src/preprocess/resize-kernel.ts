import { WASM } from './resize-wasm.ts';

/** Of the standard's types, which TypeScript has with those of browsers, what is needed here. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Grows in pages of 65,536 bytes; its buffer is another one afterwards. */
export interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** What resize.wat exports; it says what the functions do. Addresses and lengths in bytes. */
export interface Kernel {
  readonly memory: Memory;
  readonly shrinkRows: (
    from: number,
    fromLength: number,
    rows: number,
    to: number,
    width: number,
    first: number,
    weights: number,
    taps: number,
  ) => void;
  readonly mixRows: (
    from: number,
    length: number,
    to: number,
    rows: number,
    first: number,
    weights: number,
    taps: number,
  ) => void;
}

const module = new WebAssembly.Module(Buffer.from(WASM, 'base64'));

/** The kernel with a memory of its own. */
export const instantiate = (): Kernel => new WebAssembly.Instance(module).exports as Kernel;
