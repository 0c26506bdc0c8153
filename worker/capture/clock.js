// Called in the page's own world when a document begins: from then on its time
// stands still but for advance, and its chance is the same each time.
start => {
  const key = 'tintypeClock';
  if (Object.hasOwn(window, key)) return;
  const native = {
    Date, Promise, MessageChannel, setTimeout, fetch: window.fetch, reportError,
    now: performance.now.bind(performance), eval: window.eval,
  };
  let above; // frames that can see each other have one clock
  try { above = window.parent !== window ? window.parent[key] : undefined; } catch { /* of another origin */ }
  const c = above?.state ?? {now: 0, asked: 0, order: 0, id: 0, level: 0, timers: new Map(), frames: new Map(), pending: new Set()};
  // A loop that waits for the time to pass would never end; it does after ten
  // thousand looks at the clock.
  const read = () => { if (++c.asked > 10000) c.now += 1; return c.now; };
  const set = (object, name, value) => Object.defineProperty(object, name, {value, writable: true, configurable: true, enumerable: Object.propertyIsEnumerable.call(object, name)});
  const get = (object, name, getter) => { if (object) Object.defineProperty(object, name, {get: getter, configurable: true, enumerable: true}); };

  // The clock.
  const real = native.Date;
  function FakeDate(...args) {
    const now = () => new real(start + Math.floor(read()));
    if (!new.target) return now().toString();
    return Reflect.construct(real, args.length ? args : [now().getTime()], new.target);
  }
  FakeDate.prototype = real.prototype;
  Object.defineProperty(FakeDate, 'name', {value: 'Date'});
  Object.defineProperty(FakeDate, 'length', {value: 7});
  set(FakeDate, 'now', () => start + Math.floor(read()));
  set(FakeDate, 'parse', real.parse);
  set(FakeDate, 'UTC', real.UTC);
  set(real.prototype, 'constructor', FakeDate);
  set(window, 'Date', FakeDate);
  set(Performance.prototype, 'now', () => read());
  get(performance, 'timeOrigin', () => start);
  get(Event.prototype, 'timeStamp', () => c.now);
  for (const name of ['format', 'formatToParts']) {
    const d = Object.getOwnPropertyDescriptor(Intl.DateTimeFormat.prototype, name);
    if (d.get) get(Intl.DateTimeFormat.prototype, name, function () { const f = d.get.call(this); return date => f(date === undefined ? FakeDate.now() : date); });
    else set(Intl.DateTimeFormat.prototype, name, function (date) { return d.value.call(this, date === undefined ? FakeDate.now() : date); });
  }
  if (window.Temporal?.Now) {
    const instant = () => Temporal.Instant.fromEpochMilliseconds(FakeDate.now());
    const zoned = zone => instant().toZonedDateTimeISO(zone ?? Temporal.Now.timeZoneId());
    set(Temporal.Now, 'instant', instant);
    set(Temporal.Now, 'zonedDateTimeISO', zoned);
    set(Temporal.Now, 'plainDateTimeISO', zone => zoned(zone).toPlainDateTime());
    set(Temporal.Now, 'plainDateISO', zone => zoned(zone).toPlainDate());
    set(Temporal.Now, 'plainTimeISO', zone => zoned(zone).toPlainTime());
  }
  const modified = Object.getOwnPropertyDescriptor(Document.prototype, 'lastModified');
  if (modified) get(Document.prototype, 'lastModified', function () { // without such a header it is the present
    const text = modified.get.call(this), then = new real(text).getTime();
    return Math.abs(then - real.now()) > 60000 ? text : (d => `${d.slice(5, 7)}/${d.slice(8, 10)}/${d.slice(0, 4)} ${d.slice(11, 19)}`)(new real(start).toISOString());
  });

  // Timers and frames: they run when advance comes to them, and those that are
  // due at once run at once.
  const run = (w, f, ...args) => {
    try { if (!w.closed) f(...args); } catch (e) { native.reportError.call(w, e); }
  };
  const first = () => {
    let next;
    for (const t of c.timers.values()) if (!next || t.at < next.at || t.at === next.at && t.order < next.order) next = t;
    return next;
  };
  const fire = t => {
    if (t.every === undefined) c.timers.delete(t.id);
    else { t.at = c.now + t.every; t.order = ++c.order; }
    c.level = t.level;
    run(t.window, t.call);
    c.level = 0;
  };
  const wake = () => native.setTimeout.call(window, () => {
    for (let n = 0, t; n < 1000 && (t = first()) && t.at <= c.now; n++) fire(t);
  }, 0);
  const add = (f, delay, args, every) => {
    delay = Math.max(0, Number(delay) || 0);
    if (delay < 4 && (every || c.level > 4)) delay = 4; // as HTML has it for what calls itself
    const call = typeof f === 'function' ? () => f.apply(window, args) : () => native.eval(String(f));
    const id = ++c.id;
    c.timers.set(id, {id, window, call, at: c.now + delay, order: ++c.order, every: every ? delay : undefined, level: c.level + 1});
    if (delay < 1) wake();
    return id;
  };
  set(window, 'setTimeout', (f, delay, ...args) => add(f, delay, args, false));
  set(window, 'setInterval', (f, delay, ...args) => add(f, delay, args, true));
  set(window, 'clearTimeout', id => { c.timers.delete(Number(id)); });
  set(window, 'clearInterval', id => { c.timers.delete(Number(id)); });
  set(window, 'requestAnimationFrame', f => { c.frames.set(++c.id, {window, f}); return c.id; });
  set(window, 'cancelAnimationFrame', id => { c.frames.delete(id); });
  set(window, 'requestIdleCallback', f => add(() => f({didTimeout: false, timeRemaining: () => 49}), 1, [], false));
  set(window, 'cancelIdleCallback', id => { c.timers.delete(Number(id)); });

  // What is under way on the network holds the clock.
  const during = promise => {
    const one = {since: native.now()};
    c.pending.add(one);
    const over = () => c.pending.delete(one);
    native.Promise.prototype.then.call(promise, over, over);
    return promise;
  };
  if (native.fetch) set(window, 'fetch', (...args) => during(native.fetch.apply(window, args)));
  for (const name of ['json', 'text', 'arrayBuffer', 'blob', 'formData', 'bytes']) {
    const read = window.Response?.prototype[name];
    if (read) set(Response.prototype, name, function () { return during(read.call(this)); });
  }
  const send = XMLHttpRequest.prototype.send;
  set(XMLHttpRequest.prototype, 'send', function (...args) {
    during(new native.Promise(done => this.addEventListener('loadend', done, {once: true})));
    return send.apply(this, args);
  });

  // Chance.
  let seed = 0x9e3779b9;
  const random = () => { // mulberry32
    let t = seed = seed + 0x6d2b79f5 | 0;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return (t ^ t >>> 14) >>> 0;
  };
  set(Math, 'random', () => (random() * 0x200000 + (random() >>> 11)) / 0x20000000000000);
  const values = Crypto.prototype.getRandomValues;
  set(Crypto.prototype, 'getRandomValues', function (array) {
    values.call(this, array); // which knows what may be asked
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let i = 0; i < bytes.length; i++) bytes[i] = random() & 255;
    return array;
  });
  if (Crypto.prototype.randomUUID) set(Crypto.prototype, 'randomUUID', () => {
    const b = Array.from({length: 16}, () => random() & 255);
    b[6] = b[6] & 15 | 64;
    b[8] = b[8] & 63 | 128;
    const hex = b.map(x => x.toString(16).padStart(2, '0')).join('');
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
  });

  // advance lets ms of the page's time pass, for at most limit ms of ours, and
  // returns whether all of it has.
  const channel = new native.MessageChannel(), turns = [];
  channel.port1.onmessage = () => turns.shift()();
  const turn = () => new native.Promise(done => { turns.push(done); channel.port2.postMessage(0); });
  const pause = ms => new native.Promise(done => native.setTimeout.call(window, done, ms));
  const advance = async (ms, limit) => {
    const target = c.now + ms, end = native.now() + limit;
    for (;;) {
      await turn();
      await turn();
      while ([...c.pending].some(p => native.now() - p.since < 5000)) {
        if (native.now() >= end) return false;
        await pause(5);
        await turn();
      }
      if (native.now() >= end) return false;
      const timer = first(), frame = c.frames.size ? (Math.floor(c.now * 0.06 + 1e-6) + 1) / 0.06 : Infinity;
      if (Math.min(timer?.at ?? Infinity, frame) > target) break;
      c.asked = 0;
      if (timer && timer.at <= frame) {
        c.now = Math.max(c.now, timer.at);
        fire(timer);
        continue;
      }
      c.now = Math.max(c.now, frame);
      const list = [...c.frames.values()];
      c.frames.clear();
      for (const {window: w, f} of list) run(w, f, c.now);
    }
    c.now = Math.max(c.now, target);
    return true;
  };
  Object.defineProperty(window, key, {value: Object.freeze({state: c, advance})});
}
