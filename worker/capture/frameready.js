async (budget, patience) => {
  // Called in a frame that has a process of its own: wait until what it shows in
  // view is drawn. One that is out of view is not, and is not waited for, but for
  // patience where it should come into view: it learns of that later than the page.
  // Getters are taken from the prototype, because an image may stand in the place
  // of a property of its name.
  const get = name => Object.getOwnPropertyDescriptor(Document.prototype, name).get.call(document);
  const end = performance.now() + budget;
  const within = (p, most) => {
    let timer;
    return Promise.race([p, new Promise(done => { timer = setTimeout(done, Math.max(0, Math.min(most, end - performance.now()))); })]).finally(() => clearTimeout(timer));
  };
  let watch;
  const seen = await within(new Promise(done => {
    watch = new IntersectionObserver(list => (list.at(-1).isIntersecting || !patience) && done(list.at(-1).isIntersecting));
    watch.observe(get('documentElement'));
  }), patience || 500);
  watch.disconnect();
  if (!seen) return false;
  const shown = image => {
    const r = image.getBoundingClientRect();
    return r.bottom >= 0 && r.right >= 0 && r.top < innerHeight && r.left < innerWidth && image.checkVisibility();
  };
  await within(Promise.all([...get('images')].filter(shown).map(async image => {
    if (!image.complete) await new Promise(done => {
      image.addEventListener('load', done, {once: true});
      image.addEventListener('error', done, {once: true});
    });
    await image.decode().catch(() => {});
  })), Infinity);
  if (get('readyState') === 'complete') await within(get('fonts').ready, Infinity);
  const frame = () => new Promise(done => requestAnimationFrame(() => done()));
  await within(frame().then(frame), 1000);
  // The first paint is told when it is on the screen.
  await within(new Promise(done => {
    if (performance.getEntriesByType('paint').length) return done();
    new PerformanceObserver(() => done()).observe({type: 'paint', buffered: true});
  }), 500);
  return true;
}
