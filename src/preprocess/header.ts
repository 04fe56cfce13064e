export const FORMATS = ['jpeg', 'png', 'webp'] as const;
export type Format = (typeof FORMATS)[number];

/** What the first bytes of an image file tell, without decoding it. */
export interface Header {
  readonly format: Format;
  /** px, as the file claims, before it is turned upright. */
  readonly width: number;
  /** px */
  readonly height: number;
  /** Width times height. */
  readonly pixels: number;
  /** Four inks instead of light. */
  readonly isCmyk: boolean;
}

/** By the first bytes: what a client calls the file is not to be relied upon. */
export function formatOf(file: Buffer): Format | null {
  const head = file.toString('latin1', 0, 12);
  if (head.startsWith('\xff\xd8\xff')) return 'jpeg';
  if (head.startsWith('\x89PNG\r\n\x1a\n')) return 'png';
  if (head.startsWith('RIFF') && head.slice(8) === 'WEBP') return 'webp';
  return null;
}

/**
 * Reads the size off an image file. Takes microseconds, where asking libvips costs a fifth of
 * decoding a small image.
 *
 * @returns null for what is no image or ends too early; decoding says what is wrong with it.
 */
export function headerOf(file: Buffer): Header | null {
  const format = formatOf(file);
  if (format === null) return null;
  try {
    const found = SIZES[format](file);
    if (found === null) return null;
    const [width, height, channels] = found;
    const pixels = width * height;
    return pixels > 0 ? { format, width, height, pixels, isCmyk: channels === 4 } : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** More than any photo has before its first scan; a file of nothing else must not take long. */
const MAX_SEGMENTS = 1000;
export const FIRST_SCAN = 0xffda;

/** Of a JPEG: markers (two bytes) and where they are, to the first scan, or where the file is broken. */
export function* segmentsOf(file: Buffer) {
  for (let at = 2, step = 0; step < MAX_SEGMENTS && at + 4 <= file.length; step++) {
    const marker = file.readUInt16BE(at);
    if (marker >> 8 !== 0xff) return;
    // Any number of 0xff may fill the space before a marker.
    const next = marker === 0xffff ? at + 1 : at + 2 + file.readUInt16BE(at + 2);
    if (marker !== 0xffff) yield { marker, at, next };
    if (marker === FIRST_SCAN) return;
    at = next;
  }
}

/** SOF0 to SOF15: DHT, JPG and DAC lie among them. */
export const isFrame = (marker: number): boolean =>
  marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker);

/** Width, height and, of a JPEG, channels; they throw RangeError when the file ends too early. */
type Claim = readonly [width: number, height: number, channels?: number | undefined];

const SIZES: Readonly<Record<Format, (file: Buffer) => Claim | null>> = {
  jpeg(file) {
    for (const { marker, at } of segmentsOf(file)) {
      if (!isFrame(marker)) continue;
      return [file.readUInt16BE(at + 7), file.readUInt16BE(at + 5), file[at + 9]];
    }
    return null;
  },
  /** IHDR comes first. */
  png: (file) => [file.readUInt32BE(16), file.readUInt32BE(20)],
  webp(file) {
    switch (file.toString('latin1', 12, 16)) {
      case 'VP8 ':
        return [file.readUInt16LE(26) & 0x3fff, file.readUInt16LE(28) & 0x3fff];
      case 'VP8L': {
        const bits = file.readUInt32LE(21);
        return [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
      }
      case 'VP8X':
        return [file.readUIntLE(24, 3) + 1, file.readUIntLE(27, 3) + 1];
      default:
        return null;
    }
  },
};
