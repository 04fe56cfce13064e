/** Messages between the decoder pool and its threads. Buffers are transferred, not copied. */
import type { ErrorCode } from '../errors.ts';
import type { Frame } from './resize.ts';

export interface DecoderOptions extends Frame {
  /** Largest image that is decoded, width x height. */
  readonly maxPixels: number;
}

export interface ToDecoder {
  readonly files: readonly Uint8Array[];
}

/** One for each file, in order. */
export type FileResult =
  | { readonly ms: number; readonly warning?: string | undefined }
  | { readonly code: ErrorCode; readonly detail: string }
  | { readonly fault: string };

export type FromDecoder =
  | { readonly type: 'ready' }
  | {
      readonly type: 'decoded';
      readonly results: readonly FileResult[];
      /** uint8 `[number of files, height, width, 3]`; of those that failed, undefined bytes. */
      readonly pixels: ArrayBuffer;
    };
