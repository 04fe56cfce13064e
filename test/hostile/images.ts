import { crc32, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import { CAT } from '../http/client.ts';

const small = () => sharp(CAT).resize(60, 40);

/** A PNG that says it has this size, grey at `bits` per pixel, all black: small, until decoded. */
function bomb(width: number, height: number, bits: 1 | 8, rows = height): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = bits;
  const bytes = deflateSync(Buffer.alloc(rows * (1 + Math.ceil((width * bits) / 8))));
  const magic = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([magic, chunk('IHDR', header), chunk('IDAT', bytes), chunk('IEND')]);
}

function chunk(name: string, data = Buffer.alloc(0)): Buffer {
  const body = Buffer.concat([Buffer.from(name), data]);
  const framed = Buffer.alloc(8 + body.length);
  framed.writeUInt32BE(data.length);
  body.copy(framed, 4);
  framed.writeUInt32BE(crc32(body), 4 + body.length);
  return framed;
}

/** The progressive JPEG with its last scan so many times. */
function rescanned(jpeg: Buffer, times: number): Buffer {
  const scan = jpeg.subarray(jpeg.lastIndexOf(Buffer.of(0xff, 0xda)), -2);
  const scans = Array<Buffer>(times).fill(scan);
  return Buffer.concat([jpeg.subarray(0, -2), ...scans, jpeg.subarray(-2)]);
}

/** The JPEG with another size in its frame header. */
function resized(jpeg: Buffer, width: number, height: number): Buffer {
  const copy = Buffer.from(jpeg);
  const frame = copy.indexOf(Buffer.of(0xff, 0xc0));
  copy.writeUInt16BE(height, frame + 5);
  copy.writeUInt16BE(width, frame + 7);
  return copy;
}

const jpeg = await small().jpeg().toBuffer();
const png = await small().png().toBuffer();
const webp = await small().webp().toBuffer();
const frames = await sharp(Buffer.concat([await small().raw().toBuffer(), Buffer.alloc(7200, 9)]), {
  raw: { width: 60, height: 80, channels: 3, pageHeight: 40 },
})
  .webp()
  .toBuffer();

/** Files that are to be answered: odd, but images. */
export const GOOD: Readonly<Record<string, Buffer>> = {
  jpeg,
  png,
  webp,
  'progressive JPEG': await small().jpeg({ progressive: true }).toBuffer(),
  'CMYK JPEG': await small().toColourspace('cmyk').jpeg().toBuffer(),
  'grey JPEG': await small().greyscale().jpeg().toBuffer(),
  '16-bit PNG': await small().toColourspace('rgb16').png().toBuffer(),
  '1-bit PNG': bomb(64, 64, 1),
  'PNG with a palette': await small().png({ palette: true }).toBuffer(),
  'PNG with transparency': await small().ensureAlpha(0.3).png().toBuffer(),
  'animated WebP': frames,
  'JPEG that is turned': await small().withMetadata({ orientation: 6 }).jpeg().toBuffer(),
  'one pixel': await sharp(CAT).resize(1, 1).png().toBuffer(),
  'one row': await sharp(CAT).resize(2000, 1, { fit: 'fill' }).png().toBuffer(),
  'JPEG and a ZIP': Buffer.concat([jpeg, Buffer.from('PK\x05\x06' + '\0'.repeat(18), 'latin1')]),
  'JPEG and HTML': Buffer.concat([jpeg, Buffer.from('<script>alert(1)</script>')]),
};

/** Files that are to be refused. */
export const BAD: Readonly<Record<string, Buffer>> = {
  nothing: Buffer.alloc(0),
  'one byte': Buffer.of(0xff),
  'bomb, PNG of 30,000 x 30,000': bomb(30_000, 30_000, 8, 100),
  'bomb, PNG of 30,000 x 30,000 at 1 bit, whole': bomb(30_000, 30_000, 1),
  'bomb, PNG of 2^31 - 1 squared': bomb(2 ** 31 - 1, 2 ** 31 - 1, 1, 0),
  'bomb, JPEG of 65,535 x 65,535': resized(jpeg, 65_535, 65_535),
  'bomb, JPEG of 20,000 scans': rescanned(
    // Of a plain colour: its scans take some ten bytes each.
    await sharp({ create: { width: 1000, height: 1000, channels: 3, background: '#778899' } })
      .jpeg({ progressive: true })
      .toBuffer(),
    20_000,
  ),
  'PNG without a size': bomb(0, 0, 8),
  'PNG without its pixels': bomb(500, 500, 8, 10),
  'cut JPEG': jpeg.subarray(0, jpeg.length >> 1),
  'cut PNG': png.subarray(0, png.length >> 1),
  'cut WebP': webp.subarray(0, webp.length >> 1),
  'JPEG head and an SVG': Buffer.concat([
    jpeg.subarray(0, 3),
    Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
  ]),
  'GIF head and a JPEG': Buffer.concat([Buffer.from('GIF89a'), jpeg]),
  GIF: await small().gif().toBuffer(),
  TIFF: await small().tiff().toBuffer(),
  SVG: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
  'SVG that reads a file': Buffer.from(
    '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg><text>&x;</text></svg>',
  ),
  PDF: Buffer.from('%PDF-1.7\n1 0 obj\n<<>>\nendobj\n'),
  ZIP: Buffer.from('PK\x03\x04', 'latin1'),
  text: Buffer.from('hello'),
};

/** What a mutation does with the bytes; positions are shares of the length. */
const mutation = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    bytes: fc.uint8Array({ maxLength: 40 }),
  }),
  fc.record({
    kind: fc.constant('overwrite' as const),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom(Uint8Array.of(255, 255, 255, 255), Uint8Array.of(0, 0, 0, 0)),
    ),
  }),
  fc.record({
    kind: fc.constant('repeat' as const),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    times: fc.integer({ min: 2, max: 40 }),
  }),
);

type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

function mutated(file: Buffer, mutations: readonly Mutation[]): Buffer {
  return mutations.reduce((bytes, one) => {
    const at = Math.floor(one.at * bytes.length);
    const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
    switch (one.kind) {
      case 'cut':
        return head;
      case 'insert':
        return Buffer.concat([head, one.bytes, tail]);
      case 'repeat': {
        const piece = tail.subarray(0, 64);
        return Buffer.concat([head, ...Array.from({ length: one.times }, () => piece), tail]);
      }
      default: {
        const copy = Buffer.from(bytes);
        if (one.kind === 'overwrite') copy.set(one.bytes.subarray(0, tail.length), at);
        else if (tail.length > 0) copy[at]! ^= 1 << (at % 8);
        return copy;
      }
    }
  }, file);
}

const seeds = fc.constantFrom(...Object.values(GOOD), ...Object.values(BAD));

/** A file of the corpus with some mutations, or the head of one with the tail of another. */
export const hostileImage: fc.Arbitrary<Buffer> = fc
  .oneof(
    { weight: 5, arbitrary: fc.tuple(seeds, fc.array(mutation, { maxLength: 4 })) },
    {
      weight: 1,
      arbitrary: fc.tuple(
        fc
          .tuple(seeds, seeds, fc.double({ min: 0, max: 1, noNaN: true }))
          .map(([a, b, at]) =>
            Buffer.concat([a.subarray(0, at * a.length), b.subarray(at * b.length)]),
          ),
        fc.constant([]),
      ),
    },
  )
  .map(([file, mutations]) => mutated(file, mutations as Mutation[]));
