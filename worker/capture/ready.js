// Waits for what a page still shows too little of. Getters are taken from the
// prototypes, because a form or an image may stand in the place of a property of
// its name.
async (budget, all, wait) => {
  const get = name => Object.getOwnPropertyDescriptor(Document.prototype, name).get.call(document);
  const end = performance.now() + budget, late = [];
  const left = () => Math.max(0, end - performance.now());
  // within waits for p, but no longer than what is left of the budget.
  const within = (what, p) => {
    let timer;
    const over = new Promise(done => { timer = setTimeout(() => { late.push(what); done(); }, left()); });
    return Promise.race([p, over]).finally(() => clearTimeout(timer));
  };
  const frame = () => new Promise(done => requestAnimationFrame(() => done()));
  // An image that has not come yet may have no size, and counts where it stands.
  const shown = image => {
    if (all) return true;
    const r = image.getBoundingClientRect();
    return r.bottom >= 0 && r.right >= 0 && r.top < innerHeight && r.left < innerWidth && image.checkVisibility();
  };
  const images = () => [...get('images')].filter(shown);
  const complete = image => image.complete ? undefined : new Promise(done => {
    image.addEventListener('load', done, {once: true});
    image.addEventListener('error', done, {once: true});
  });
  // Before the load, fonts.ready waits for it, even if no font is on its way.
  const fonts = () => get('readyState') === 'complete' || get('fonts').status === 'loading' ? get('fonts').ready : undefined;
  if (wait) {
    await within('frame', frame());
    if (all) for (const image of get('images')) if (image.loading === 'lazy') image.loading = 'eager';
    await Promise.all([
      within('images', Promise.all(images().map(async image => {
        await complete(image);
        await image.decode().catch(() => {});
      }))),
      within('fonts', fonts()),
    ]);
  }
  return {
    title: String(get('title')).slice(0, 2000),
    unloaded: images().filter(i => (i.currentSrc || i.src) && !(i.complete && i.naturalWidth > 0)).length,
    late,
    framed: window.length > 0,
  };
}
