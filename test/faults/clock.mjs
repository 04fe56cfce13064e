/** Loaded before the server: the time of day jumps by an hour with every look at it. */
const real = Date.now;
let looks = 0;
Date.now = () => real() + (looks++ % 3) * 3_600_000 - 3_600_000;
