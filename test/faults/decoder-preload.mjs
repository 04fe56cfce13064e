// Loaded into every thread of a server: a decoder thread ends when it is to decode the file that
// says so.
import { createRequire } from 'node:module';
import { isMainThread, workerData } from 'node:worker_threads';

if (!isMainThread && workerData?.maxPixels) {
  const turbo = createRequire(`${process.cwd()}/package.json`)('@julusian/jpeg-turbo');
  const { decompressSync } = turbo;
  turbo.decompressSync = (file, ...rest) => {
    if (file.includes('deadly')) process.exit(3);
    return decompressSync(file, ...rest);
  };
}
