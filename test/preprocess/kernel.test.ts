import { readFile } from 'node:fs/promises';
import wabt from 'wabt';
import { expect, it } from 'vitest';

const SOURCE = 'src/preprocess/resize.wat';

it('the kernel is what resize.wat says (npm run generate)', async () => {
  const module = (await wabt()).parseWat(SOURCE, await readFile(SOURCE, 'utf8'), { simd: true });
  const bytes = Buffer.from(module.toBinary({}).buffer);
  const code = `/** Made from resize.wat by \`npm run generate\`: WebAssembly, in base64. */
export const WASM =
  '${bytes.toString('base64')}';
`;
  await expect(code).toMatchFileSnapshot('../../src/preprocess/resize-wasm.ts');
});
