import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';

/*
 * Imported for its effect, before everything else; docs/cost-of-a-request.md has what it brings.
 */

/**
 * V8 optimises a function only after it has run for a while: in Node 20 after 66 KiB of its
 * bytecode, several times over, in Node 22 after 3,000 calls. At a hundred requests a second that
 * is half a minute and more, in which an answer costs half as much again.
 */
const isNode20 = process.versions.v8.startsWith('11.');
setFlagsFromString(isNode20 ? '--interrupt-budget=10000' : '--invocation-count-for-turbofan=400');

/**
 * Collecting young objects with helper threads only adds thread switches where there is one core.
 * The other helpers of the garbage collector can't be turned off at run time.
 */
if (availableParallelism() === 1) setFlagsFromString('--no-parallel-scavenge');
