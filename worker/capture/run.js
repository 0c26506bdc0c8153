async source => {
  // What has an await of its own is run as the body of a function.
  let body;
  if (/\bawait\b/.test(source)) {
    try { new Function(source); } catch { body = Object.getPrototypeOf(async () => {}).constructor(source); }
  }
  const result = body ? body() : (0, eval)(source);
  const clock = window.tintypeClock; // time that is ours to give
  if (clock) {
    let over = false;
    Promise.resolve(result).catch(() => {}).finally(() => { over = true; });
    while (!over) await clock.advance(20, 10000);
  }
  await result;
}
